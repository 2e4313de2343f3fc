"""The paper's table as a piece of HTML."""

from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from diffusability.core.report.tables.number_format import ABSENT
from diffusability.core.report.tables.paper_table import PaperTable, TableCell


def paper_table_html(paper: PaperTable) -> Markup:
    """A ``figure`` with the table; differences from the first row stand below the values."""
    grid = paper.grid(_cell)
    legend = paper.legend("Gray, in parentheses")
    if paper.has(lambda cell: cell.delta):
        legend.append(f"Δ: {paper.difference_legend}, and gray where not.")
    grouped = any(name for name, _ in grid.column_groups)
    return Markup(_template().render(paper=paper, grid=grid, grouped=grouped, legend=" ".join(legend)))


def _cell(cell: TableCell) -> Markup:
    first = Markup("<strong>{}</strong>" if cell.best else "{}").format(cell.value or ABSENT)
    if cell.std:
        first += Markup(' <span class="std">± {}</span>').format(cell.std)
    if cell.published_value:
        first += Markup(' <span class="published">({})</span>').format(cell.published_value)
    lines = [first]
    if cell.interval:
        lines.append(Markup("<small>{}</small>").format(cell.interval))
    if cell.delta:
        kind = {True: ' class="better"', False: ' class="worse"', None: ""}[cell.improves]
        delta = " ".join(filter(None, (cell.delta, cell.delta_interval)))
        lines.append(Markup("<small{}>Δ {}</small>").format(Markup(kind), delta))
    return Markup("<br>").join(lines)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    source = resources.files(__package__).joinpath("paper_table.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)
