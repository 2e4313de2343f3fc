"""What results say beside their numbers, such as that a distance is biased or that channels were left out."""

from diffusability.core.report.comparison import Comparison
from diffusability.core.run.metric_names import info_of

#: Between the notes of one result.
SEPARATOR = "; "


def result_notes(comparison: Comparison) -> list[str]:
    """A line for each stage and note, with the metrics and the variants that it concerns."""
    holders: dict[tuple[str, str], tuple[list[str], list[str]]] = {}
    for folder in comparison.all_folders():
        for metric in folder.stage.metrics.values():
            for note in metric.note.split(SEPARATOR) if metric.note else ():
                labels, variants = holders.setdefault((folder.stage.name, note), ([], []))
                labels.append(info_of(metric).label)
                variants.append(folder.label)
    return [
        f"{stage}: {', '.join(dict.fromkeys(labels))}: {note} ({', '.join(dict.fromkeys(variants))})"
        for (stage, note), (labels, variants) in holders.items()
    ]
