"""Draws a chain of boxes in place of a mermaid block, which a browser could only draw with a script from elsewhere."""

import html
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

BLOCK = re.compile(r"^```mermaid\n(.*?)^```", re.S | re.M)


def boxes(source: str) -> list[str]:
    """Labels of the boxes, in the order in which they are written, which is from the lowest up."""
    return re.findall(r'\w+\["([^"]+)"\]', source)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """An ordered list, the highest box first; its style is in stylesheets/site.css."""

    def drawn(match: re.Match[str]) -> str:
        labels = boxes(match[1])
        *layers, plugins = labels
        items = "".join(f"<li>{html.escape(label)}</li>" for label in reversed(layers))
        below = f'<p class="layers">{html.escape(plugins)} build on the contracts.</p>'
        return f'<ol class="layers" reversed>{items}</ol>\n{below}\n'

    return BLOCK.sub(drawn, markdown)
