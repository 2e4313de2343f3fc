"""Turns each notebook below docs/ into a page: text, code, and what the code printed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def _output(output: dict[str, Any]) -> Iterator[str]:
    if output["output_type"] == "stream":
        yield f"```text\n{''.join(output['text']).rstrip()}\n```\n"
        return
    data = output.get("data", {})
    if "image/png" in data:
        yield f'<img alt="figure of the cell above" src="data:image/png;base64,{"".join(data["image/png"]).strip()}">\n'
    elif "text/html" in data:
        yield "".join(data["text/html"]) + "\n"
    elif "text/plain" in data:
        yield f"```text\n{''.join(data['text/plain'])}\n```\n"


def as_markdown(notebook: dict[str, Any]) -> str:
    """A notebook (format 4) as a page."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source + "\n")
        elif cell["cell_type"] == "code":
            parts.append(f"```python\n{source}\n```\n")
            parts += [text for output in cell["outputs"] for text in _output(output)]
    return "\n".join(parts)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Puts a page of the same name in each notebook's place."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            notebook = json.loads(Path(str(file.abs_src_path)).read_text())
            files.append(File.generated(config, file.src_uri.replace(".ipynb", ".md"), content=as_markdown(notebook)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to notebooks lead to their pages."""
    return re.sub(r"(\]\((?!https?:)[^)\s]+)\.ipynb([)#])", r"\1.md\2", markdown)
