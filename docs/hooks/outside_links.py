"""Files of the repository outside docs/ to which a page links become part of the site, below ``repository/``."""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)(#[^)]*)?\)")
#: Languages by the suffix of a file that is shown as a page.
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".txt": "text"}
FOLDER = "repository"


def repository_path(target: str, page: str) -> str | None:
    """The path in the repository of what a page of docs/ links to; None if it is below docs/ itself."""
    path = normpath(str(PurePosixPath("docs", page).parent / target))
    if page.startswith(f"{FOLDER}/"):
        path = normpath(str(PurePosixPath(page).parent.relative_to(FOLDER) / target))
    return None if path.startswith("docs/") else path


def site_path(path: str) -> str:
    """Where a file of the repository stands in the site."""
    return f"{FOLDER}/{path}" if path.endswith(".md") else f"{FOLDER}/{path}.md"


def _page_of(path: str) -> str:
    text = (ROOT / path).read_text()
    if path.endswith(".md"):
        return text
    return f"# {path}\n\n````{LANGUAGES.get(Path(path).suffix, 'text')}\n{text}\n````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds every file outside docs/ that a page links to, and what these link to."""
    waiting = [(file.src_uri, file.content_string) for file in files.documentation_pages()]
    added = set()
    while waiting:
        uri, text = waiting.pop()
        for match in LINK.finditer(text):
            path = repository_path(match[1], uri)
            if path is None or path in added or not (ROOT / path).is_file():
                continue
            added.add(path)
            content = _page_of(path)
            files.append(File.generated(config, site_path(path), content=content))
            waiting.append((site_path(path), content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points the links at the site's own pages."""
    here = page.file.src_uri

    def replaced(match: re.Match[str]) -> str:
        path = repository_path(match[1], here)
        if path is None:
            path = normpath(str(PurePosixPath("docs", here).parent / match[1]))
            if here.startswith(f"{FOLDER}/"):
                path = normpath(str(PurePosixPath(here).parent.relative_to(FOLDER) / match[1]))
            target = path.removeprefix("docs/")
        else:
            target = site_path(path)
        return f"]({relpath(target, PurePosixPath(here).parent.as_posix())}{match[2] or ''})"

    return LINK.sub(replaced, markdown)
