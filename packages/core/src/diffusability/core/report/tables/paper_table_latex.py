"""The paper's table in LaTeX, for ``\\input`` in a document that loads booktabs and xcolor."""

from collections.abc import Callable, Iterator, Sequence

from diffusability.core.report.tables.paper_table import Grid, PaperTable, TableCell

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\u2212": "$-$",
    "±": r"$\pm$",
    "\u00d7": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "—": "---",
    "\u2013": "--",
    **{sign: f"\\{sign}" for sign in "&%$#_"},
}


def escape_latex(text: str) -> str:
    """Text that LaTeX prints letter by letter."""
    return "".join(_ESCAPES.get(sign, sign) for sign in " ".join(text.split()))


def paper_table_latex(paper: PaperTable) -> str:
    """A ``table`` with the results, and one with the differences from the first row where there are any."""
    lines = [r"% needs \usepackage{booktabs}, \usepackage{xcolor} and, for '\textquotedbl', \usepackage[T1]{fontenc}"]
    lines += [f"% {' '.join(note.split())}" for note in paper.notes]
    legend = " ".join(paper.legend("Gray, in parentheses"))
    title = paper.caption if not paper.caption or paper.caption[-1] in ".!?:" else f"{paper.caption}."
    caption = " ".join(filter(None, (title, legend)))
    second = paper.grid(_interval) if paper.has(lambda cell: cell.interval) else None
    lines += _environment(caption, paper.grid(_value), second)
    if paper.has(lambda cell: cell.delta):
        caption = f"{paper.difference_legend[0].upper()}{paper.difference_legend[1:]}, and gray where not."
        second = paper.grid(_delta_interval, 1) if paper.has(lambda cell: cell.delta_interval) else None
        lines += ["", *_environment(caption, paper.grid(_delta, 1), second)]
    return "\n".join(lines) + "\n"


def _environment(caption: str, grid: Grid, second: Grid | None) -> Iterator[str]:
    yield r"\begin{table}[t]"
    yield r"  \centering"
    if caption:
        yield rf"  \caption{{{escape_latex(caption)}}}\smallskip"  # classes leave no room below a caption
    yield rf"  \begin{{tabular}}{{l{'c' * len(grid.columns)}}}"
    yield from (f"    {line}" for line in _tabular(grid, second))
    yield r"  \end{tabular}"
    yield r"\end{table}"


def _tabular(grid: Grid, second: Grid | None) -> Iterator[str]:
    yield r"\toprule"
    yield from _column_groups(grid)
    yield _line(["", *(escape_latex(head.label) for head in grid.columns)])
    yield r"\midrule"
    group = ""
    for place, head in enumerate(grid.rows):
        if head.group and head.group != group:
            yield rf"\multicolumn{{{len(grid.columns) + 1}}}{{l}}{{\emph{{{escape_latex(head.group)}}}}} \\"
        group = head.group
        yield _line([(r"\quad " if group else "") + escape_latex(head.label), *grid.texts[place]])
        if second is not None and any(second.texts[place]):
            yield _line(["", *second.texts[place]])
    yield r"\bottomrule"


def _column_groups(grid: Grid) -> Iterator[str]:
    groups = grid.column_groups
    if not any(name for name, _ in groups):
        return
    cells, rules, column = [""], [], 2
    for name, count in groups:
        if name:
            cells.append(rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(name)}}}")
            rules.append(rf"\cmidrule(lr){{{column}-{column + count - 1}}}")
        else:
            cells.append("")
        column += count
    yield _line(cells)
    yield " ".join(rules)


def _line(cells: Sequence[str]) -> str:
    line = " & ".join(cells)
    if line.startswith((" ", "[", "*")):  # would be read as an argument of the line end before it
        line = f"{{}}{line}"
    return rf"{line} \\"


def _small(show: Callable[[TableCell], str]) -> Callable[[TableCell], str]:
    return lambda cell: rf"{{\scriptsize {escape_latex(show(cell))}}}" if show(cell) else ""


_interval = _small(lambda cell: cell.interval)
_delta_interval = _small(lambda cell: cell.delta_interval)


def _delta(cell: TableCell) -> str:
    text = escape_latex(cell.delta)
    unclear = cell.difference is not None and not cell.difference.significant
    return rf"\textcolor{{gray}}{{{text}}}" if unclear else text


def _value(cell: TableCell) -> str:
    value = escape_latex(cell.value) or "--"
    parts = [rf"\textbf{{{value}}}" if cell.best else value]
    if cell.std:
        parts.append(rf"{{\scriptsize $\pm$ {escape_latex(cell.std)}}}")
    if cell.published_value:
        parts.append(rf"\textcolor{{gray}}{{({escape_latex(cell.published_value)})}}")
    return " ".join(parts)
