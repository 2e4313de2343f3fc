"""The variants of one run, or of several, side by side."""

from collections.abc import Iterator, Mapping, Sequence

import attrs

from diffusability.core.report.line_styles import SHARED, LineStyle, variant_style
from diffusability.core.report.run_folder import Run, Stage


@attrs.frozen(kw_only=True, eq=False)
class ComparedVariant:
    """A variant of a run, with the name and the line style that it has throughout the report."""

    run: str
    label: str
    style: LineStyle
    stages: Mapping[str, Stage]


@attrs.frozen(kw_only=True, eq=False)
class StageFolder:
    """What variants that share a stage have in common; most often it is one variant's own.

    Attributes:
        label: names of the variants, or that it is all of them.
        style: line style that stands for them.
        variants: the names one by one.
        stage: the stage.
    """

    label: str
    style: LineStyle
    variants: tuple[str, ...]
    stage: Stage


@attrs.frozen(kw_only=True, eq=False)
class Comparison:
    """All variants, the baseline first, and the names of all stages in order."""

    runs: Sequence[Run]
    variants: Sequence[ComparedVariant]
    stage_names: Sequence[str]

    @property
    def title(self) -> str:
        """The name of the run, or of the runs."""
        return " · ".join(run_labels(self.runs))

    def folders(self, stage_name: str) -> list[StageFolder]:
        """The distinct folders of a stage, in order of variants. Variants without that stage are left out."""
        sharing: dict[object, list[ComparedVariant]] = {}
        for variant in self.variants:
            stage = variant.stages.get(stage_name)
            if stage is not None:
                sharing.setdefault(stage.directory or variant.label, []).append(variant)
        return [self._folder(stage_name, variants) for variants in sharing.values()]

    def all_folders(self) -> Iterator[StageFolder]:
        """The distinct folders of all stages."""
        for name in self.stage_names:
            yield from self.folders(name)

    def _folder(self, stage_name: str, variants: Sequence[ComparedVariant]) -> StageFolder:
        names = tuple(variant.label for variant in variants)
        everybody = len(names) > 1 and len(names) == len(self.variants)
        return StageFolder(
            label="all variants" if everybody else self._joint_label(variants),
            style=SHARED if everybody else variants[0].style,
            variants=names,
            stage=variants[0].stages[stage_name],
        )

    def _joint_label(self, variants: Sequence[ComparedVariant]) -> str:
        run = variants[0].run
        whole_run = [variant for variant in self.variants if variant.run == run]
        if len(variants) > 1 and len(variants) == len(whole_run):
            return f"{run}, all variants"
        return ", ".join(variant.label for variant in variants)


def run_labels(runs: Sequence[Run]) -> list[str]:
    """The names of runs, numbered where two of them are equal."""
    names = [run.name for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def compare(runs: Sequence[Run]) -> Comparison:
    """Lines up the variants of runs. Of several runs, variants are called ``run/variant``."""
    labelled = [
        (run_label, variant if len(runs) == 1 else f"{run_label}/{variant}", stages)
        for run_label, run in zip(run_labels(runs), runs, strict=True)
        for variant, stages in run.variants.items()
    ]
    variants = [
        ComparedVariant(run=run, label=label, style=variant_style(place), stages=stages)
        for place, (run, label, stages) in enumerate(labelled)
    ]
    stage_names = list(dict.fromkeys(name for _, _, stages in labelled for name in stages))
    return Comparison(runs=runs, variants=variants, stage_names=stage_names)
