"""The report of one run, or of several side by side, from what they left in their folders. Free of torch."""

from collections.abc import Sequence
from pathlib import Path

from diffusability.core.errors import SpecError
from diffusability.core.report.comparison import compare
from diffusability.core.report.contents import gather
from diffusability.core.report.html_page import render_html
from diffusability.core.report.markdown_page import render_markdown
from diffusability.core.report.run_folder import read_run


def build_report(run_directories: Sequence[Path], output: Path | None = None) -> list[Path]:
    """Writes ``report.html`` and ``report.md``, with figures under ``figures/``, and returns the two paths.

    Of several runs, the variants are compared as ``run/variant``. Runs may be unfinished: what is missing is shown
    as absent, and what cannot be read is named in the report.

    Args:
        run_directories: one or more run folders; the first variant of the first is the baseline.
        output: folder for the report, made if need be; the first run's by default.

    Raises:
        SpecError: no folder is given, or one of them is not a run folder. Nothing was written.
    """
    directories = list({Path(directory).resolve(): Path(directory) for directory in run_directories}.values())
    if not directories:
        raise SpecError("no run folder was given; expected one or more, such as 'runs/quickstart'")
    contents = gather(compare([read_run(directory) for directory in directories]))
    target = Path(output) if output is not None else directories[0]
    target.mkdir(parents=True, exist_ok=True)
    for figure in contents.figures:
        figure.save(target / "figures")
    pages = {"report.html": render_html(contents, target), "report.md": render_markdown(contents, target)}
    for name, page in pages.items():
        (target / name).write_text(page, encoding="utf-8")
    return [target / name for name in pages]


__all__ = ["build_report"]
