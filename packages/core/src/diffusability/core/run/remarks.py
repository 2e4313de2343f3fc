"""What a reader must know before the numbers of a stage: said on the console, kept in its folder for the report."""

from pathlib import Path

from diffusability.core.writing import replacing

FILE = "remarks.txt"


def read_remarks(directory: Path) -> list[str]:
    """The sentences that a stage's folder keeps, in the order in which they were said."""
    try:
        return [line for line in (directory / FILE).read_text(encoding="utf-8").splitlines() if line]
    except OSError:
        return []


def keep_remark(directory: Path, sentence: str) -> bool:
    """Adds a sentence to a stage's folder. Returns whether it is a new one."""
    text = " ".join(sentence.split())
    known = read_remarks(directory)
    if text in known:
        return False
    with replacing(directory / FILE) as partial:
        partial.write_text("\n".join([*known, text]) + "\n", encoding="utf-8")
    return True
