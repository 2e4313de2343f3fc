"""Pieces of GitHub markdown."""

import re
from collections.abc import Sequence


def escape(text: str) -> str:
    """Text that markdown shows letter by letter, also inside a table."""
    one_line = " ".join(text.split())
    escaped = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", one_line)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], numeric: bool = False) -> str:
    """A markdown table of escaped cells; with ``numeric``, all columns but the first are aligned to the right."""
    rule = ["---", *(["---:" if numeric else "---"] * (len(header) - 1))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
