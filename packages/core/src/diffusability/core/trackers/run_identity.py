"""The identity of a stage's run in a tracker: made when the stage starts, found again when it resumes."""

import uuid
from pathlib import Path


def identity_file(directory: Path, tracker: str) -> Path:
    """The file in a stage's folder that holds the identity of its run."""
    return directory / f"{tracker}-run-id.txt"


def run_id_of(directory: Path, tracker: str) -> str:
    """Eight hexadecimal digits that a stage keeps."""
    path = identity_file(directory, tracker)
    if not path.is_file():
        path.write_text(uuid.uuid4().hex[:8] + "\n")
    return path.read_text().strip()
