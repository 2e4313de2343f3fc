"""The paper's table as GitHub markdown."""

from collections.abc import Callable, Iterator

from diffusability.core.report.pages.markdown_text import escape, table
from diffusability.core.report.tables.number_format import ABSENT
from diffusability.core.report.tables.paper_table import Heading, PaperTable, TableCell


def paper_table_markdown(paper: PaperTable) -> str:
    """The table, and below it what would crowd its cells: intervals, and differences from the first row."""
    return "\n\n".join(_sections(paper))


def _sections(paper: PaperTable) -> Iterator[str]:
    if paper.caption:
        yield f"**{escape(paper.caption)}**"
    yield _grid(paper, _value)
    legend = [sentence for sentence in paper.legend("In parentheses") if "square brackets" not in sentence]
    if legend:
        yield " ".join(legend)
    if paper.has(lambda cell: cell.interval):
        yield " ".join(sentence for sentence in paper.legend("") if "square brackets" in sentence)
        yield _grid(paper, lambda cell: cell.interval)
    if paper.has(lambda cell: cell.delta):
        yield f"{escape(paper.difference_legend[0].upper() + paper.difference_legend[1:])}:"
        yield _grid(paper, lambda cell: " ".join(filter(None, (cell.delta, cell.delta_interval))), first_row=1)
    for note in paper.notes:
        yield f"† {escape(note)}"


def _grid(paper: PaperTable, show: Callable[[TableCell], str], first_row: int = 0) -> str:
    grid = paper.grid(show, first_row)
    rows = [
        [_head(head), *(escape(text) if show is not _value else text or ABSENT for text in texts)]
        for head, texts in zip(grid.rows, grid.texts, strict=True)
    ]
    return table(["", *map(_head, grid.columns)], rows, numeric=True)


def _head(heading: Heading) -> str:
    return escape(f"{heading.group}, {heading.label}" if heading.group else heading.label)


def _value(cell: TableCell) -> str:
    value = cell.value or ABSENT
    parts = [f"**{value}**" if cell.best else value]
    if cell.std:
        parts.append(f"± {cell.std}")
    if cell.published_value:
        parts.append(f"({cell.published_value})")
    return " ".join(parts)
