"""Files in a tree of folders: which there are, to which split they belong, and to which class."""

import heapq
import os
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from diffusability.core.errors import DataError
from diffusability.core.numerics.seeds import derived_seed
from diffusability.core.specs.files.contents import FileSet

#: Folders that systems make beside what people put there: copies of attributes, thumbnails, bins.
_OF_SYSTEMS = frozenset({"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"})


@attrs.frozen(kw_only=True)
class FileTree:
    """What a tree of folders holds. Hidden files and folders are left out, and folders that systems make.

    Attributes:
        paths: files with a suffix that is read, relative to the root, sorted; each real file once.
        folders: folders right below the root, sorted, empty ones too.
        repeated: further names (links) of files that are among the paths already.
        unread: files with a suffix that is known and not read, counted by suffix.
    """

    paths: list[str]
    folders: list[str]
    repeated: int
    unread: Mapping[str, int]

    def notes(self, root: Path, noun: str, hints: Mapping[str, str]) -> list[str]:
        """What was left out, in sentences; nothing when nothing was.

        Args:
            root: the top folder.
            noun: what the files are: images or videos.
            hints: how files of a suffix can be read.
        """
        sentences = []
        if self.repeated:
            sentences.append(f"{str(root)!r}: {self.repeated} links lead to {noun} that are there already; left out")
        if self.unread:
            counts = ", ".join(f"{count} {suffix}" for suffix, count in sorted(self.unread.items()))
            ways = "".join(f"; {hint}" for hint in sorted({hints[suffix] for suffix in self.unread if suffix in hints}))
            sentences.append(
                f"{str(root)!r}: {counts} files are left out: {noun} of these kinds are not read here{ways}"
            )
        return sentences


#: Whether a link led to a file, its path from the root, the device of its folder, and its inode.
_Entry = tuple[bool, str, int, int]


def read_tree(root: Path, suffixes: Collection[str] | None, known: Collection[str] = ()) -> FileTree:
    """Lists a tree, following links. Each folder is visited once, by its device and inode, so links may form circles.

    A file with several names keeps one: a name that leads through no link, and of several the first.

    Args:
        root: the top folder.
        suffixes: suffixes of the files that are wanted, in lower case; None: all files.
        known: suffixes of files that are counted.

    Raises:
        DataError: a folder cannot be listed; names it.
    """
    files: list[_Entry] = []
    folders: set[str] = set()
    unread: Counter[str] = Counter()
    has_links = False
    for folder, device, through_link, entries in _folders(root):
        if folder and "/" not in folder:
            folders.add(folder)
        for entry in entries:
            if _is_folder(entry):
                continue
            name = f"{folder}/{entry.name}" if folder else entry.name
            suffix = os.path.splitext(entry.name)[1].lower()
            wanted = suffixes is None or suffix in suffixes
            if not (wanted or suffix in known) or not _is_file(entry):
                continue
            if not wanted:
                unread[suffix] += 1
                continue
            is_link = through_link or entry.is_symlink()
            has_links = has_links or is_link
            files.append((is_link, name, device, entry.inode()))
    files.sort()
    paths = _each_once(root, files, has_links)
    return FileTree(paths=sorted(paths), folders=sorted(folders), repeated=len(files) - len(paths), unread=dict(unread))


def holds_any(root: Path, suffixes: Collection[str]) -> bool:
    """Whether a file with one of these suffixes lies below a folder; stops at the first. Raises DataError as above."""
    return any(
        os.path.splitext(entry.name)[1].lower() in suffixes and not _is_folder(entry) and _is_file(entry)
        for _, _, _, entries in _folders(root)
        for entry in entries
    )


def _folders(root: Path) -> Iterator[tuple[str, int, bool, list["os.DirEntry[str]"]]]:
    """Each folder once: its path from the root, its device, whether a link led to it, and what is in it.

    Links are followed last, so that a folder is found under its own name before it is found through a link.
    """
    own, links = [""], list[str]()
    visited: set[tuple[int, int]] = set()
    linked = False
    while own or links:
        linked = linked or not own
        folder = own.pop() if own else heapq.heappop(links)
        path = root / folder
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(path) as listing:
                entries = [
                    entry for entry in listing if not entry.name.startswith(".") and entry.name not in _OF_SYSTEMS
                ]
        except OSError as error:
            raise DataError(f"folder {str(path)!r} cannot be listed: {error.strerror or error}") from None
        for entry in entries:
            if _is_folder(entry):
                below = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_symlink():
                    heapq.heappush(links, below)
                else:
                    own.append(below)
        yield folder, status.st_dev, linked, entries


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(entry: "os.DirEntry[str]") -> bool:
    """False for pipes, sockets and devices. True for a link that leads nowhere: it is reported when it is read."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _each_once(root: Path, entries: Sequence[_Entry], has_links: bool) -> list[str]:
    """The first name of each real file.

    The inode numbers of a listing cost nothing, but in layered file systems they are not always unique: where two are
    the same, and everywhere as soon as there are links, the files themselves are asked.
    """
    counts = Counter((device, inode) for _, _, device, inode in entries)
    names: dict[tuple[object, ...], str] = {}
    for _, path, device, inode in entries:
        key: tuple[object, ...] = (device, inode)
        if has_links or counts[device, inode] > 1:
            try:
                status = (root / path).stat()
                key = ("asked", status.st_dev, status.st_ino)
            except OSError:
                key = ("lost", path)
        names.setdefault(key, path)
    return list(names.values())


def real_file(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None when there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else None


def file_paths(root: Path, suffixes: Collection[str]) -> list[str]:
    """Files with one of these suffixes below a folder, relative to it, sorted; hidden ones are left out.

    Raises:
        DataError: a folder cannot be listed.
    """
    return read_tree(root, suffixes).paths


def folder_files(
    folders: Mapping[str, Path | None], suffixes: Collection[str], with_classes: bool
) -> dict[str, FileSet]:
    """The files that count of each folder that is there; with classes, its class folders count too.

    Raises:
        DataError: a folder cannot be listed.
    """
    file_sets = {}
    for name, folder in folders.items():
        if folder is not None and folder.is_dir():
            tree = read_tree(folder, suffixes)
            file_sets[name] = FileSet(root=folder, names=tree.paths, facts=tree.folders if with_classes else ())
    return file_sets


def class_names_of(paths: Sequence[str], root: Path, folders: Sequence[str] = ()) -> list[str]:
    """The folders right below the root, sorted; one of ``folders`` that is empty keeps its number, as in torchvision.

    Raises:
        DataError: a file lies in none.
    """
    loose = [path for path in paths if "/" not in path]
    if loose:
        raise DataError(f"labels: folder, but {loose[0]!r} lies in no class folder of {str(root)!r}")
    return sorted({path.split("/")[0] for path in paths} | set(folders))


def empty_classes(paths: Sequence[str], class_names: Sequence[str], root: Path, noun: str) -> list[str]:
    """A sentence about class folders without files; nothing when there are none."""
    filled = {path.split("/", maxsplit=1)[0] for path in paths}
    empty = [name for name in class_names if name not in filled]
    if not empty:
        return []
    shown = ", ".join(f"{name!r} (class {class_names.index(name)})" for name in empty[:5])
    more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
    return [f"{str(root)!r}: class folders without {noun} keep their numbers: {shown}{more}"]


def is_validation(path: str, share: float) -> bool:
    """Whether a file belongs to validation: a function of its name, so that new files move no old ones."""
    return derived_seed("validation", path) / 2**63 < share


def label_of(path: str, class_names: Sequence[str], root: Path) -> int:
    """The class of a file. Raises DataError when its folder is not among the classes."""
    name = path.split("/", maxsplit=1)[0]
    if name not in class_names:
        raise DataError(f"class folder {name!r} of {str(root)!r} is not among {', '.join(class_names)}")
    return class_names.index(name)
