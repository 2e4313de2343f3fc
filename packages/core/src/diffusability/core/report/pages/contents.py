"""What a report contains, in every format."""

from collections.abc import Iterator, Sequence

import attrs

from diffusability.core.report.comparison import Comparison
from diffusability.core.report.figures.curve_figures import curve_figures
from diffusability.core.report.figures.pictures import PictureRow, picture_rows, plot_rows, sample_rows
from diffusability.core.report.figures.report_figure import ReportFigure
from diffusability.core.report.figures.training_figures import optimisation_figures, training_figures
from diffusability.core.report.pages.glossary import GlossaryEntry, glossary
from diffusability.core.report.pages.headline import KeyResult, Progress, key_results, progress_of
from diffusability.core.report.pages.verdict import how_compared, verdicts
from diffusability.core.report.tables.metric_table import Column, metric_columns
from diffusability.core.report.tables.paper_table import PaperTable, paper_table
from diffusability.core.report.tables.result_notes import result_notes


@attrs.frozen(kw_only=True, eq=False)
class Contents:
    """The parts of a report, in the order in which they are shown.

    Attributes:
        comparison: the variants.
        progress: how far the runs have come.
        verdicts: a sentence for each variant but the baseline.
        how_compared: how the intervals of differences were found; empty where there are none.
        keys: the few numbers to look at first.
        tables: of each run that has one, its results as a paper prints them.
        columns: the table of variants by metrics.
        notes: what a reader must know to judge single numbers, a line each.
        curves: spectra, chop-off curves and other metrics that are curves.
        samples: the latest sample grids.
        pictures: picture figures that stages drew.
        training: losses, and metrics that were evaluated while training.
        optimisation: learning rate, gradient norm and speed.
        plots: plots that stages drew of one variant alone.
        glossary: what names of metrics and of kinds mean.
    """

    comparison: Comparison
    progress: Progress
    verdicts: Sequence[str]
    how_compared: str
    keys: Sequence[KeyResult]
    tables: Sequence[PaperTable]
    columns: Sequence[Column]
    notes: Sequence[str]
    curves: Sequence[ReportFigure]
    samples: Sequence[PictureRow]
    pictures: Sequence[PictureRow]
    training: Sequence[ReportFigure]
    optimisation: Sequence[ReportFigure]
    plots: Sequence[PictureRow]
    glossary: Sequence[GlossaryEntry]

    @property
    def figures(self) -> Iterator[ReportFigure]:
        """All figures that the report draws itself."""
        yield from (*self.curves, *self.training, *self.optimisation)


def gather(comparison: Comparison) -> Contents:
    """Computes the table and draws the figures."""
    columns = metric_columns(comparison)
    return Contents(
        comparison=comparison,
        progress=progress_of(comparison),
        verdicts=verdicts(comparison, columns),
        how_compared=how_compared(columns),
        keys=key_results(comparison, columns),
        tables=[paper_table(run, run.table) for run in comparison.runs if run.table is not None],
        columns=columns,
        notes=result_notes(comparison),
        curves=curve_figures(comparison),
        samples=sample_rows(comparison),
        pictures=picture_rows(comparison),
        training=training_figures(comparison),
        optimisation=optimisation_figures(comparison),
        plots=plot_rows(comparison),
        glossary=glossary(comparison, columns),
    )
