"""The pages of the documentation, and the code blocks in them."""

from pathlib import Path

from sybil import Document
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "recipes/README.md")),
    *sorted(ROOT.glob("packages/*/README.md")),
    *sorted(ROOT.glob("docs/**/*.md")),
]


def name_of(page):
    """The page's path in the repository."""
    return str(page.relative_to(ROOT))


def text_blocks(page, language):
    """Line and text of each fenced block of a language."""
    parser = CodeBlockParser(language, evaluator=lambda example: None)
    return [(example.line, str(example.parsed)) for example in Document.parse(str(page), parser).examples()]


def python_of(page):
    """The Python blocks of a page: their ``evaluate()`` runs them, in order, in one namespace."""
    return list(Document.parse(str(page), PythonCodeBlockParser()).examples())
