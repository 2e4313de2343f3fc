"""Refuses a validation set that holds what is trained on: the same files, or copies of them."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import attrs
import numpy as np

from diffusability.core.errors import DataError

#: Validation examples whose contents are compared; of more, so many evenly spread ones.
MOST_COMPARED = 2048
#: Published sets hold a few images twice, under different names. A larger share is a mistake.
TOLERATED_SHARE = 0.01


@attrs.frozen(kw_only=True, eq=False)
class Part:
    """The encoded examples of one split.

    Attributes:
        names: what each is called, for messages and to recognise copies; None where examples have no names.
        sizes: bytes of each.
        read: the bytes of the example at a place.
        identities: what tells that two are the very same (such as device and inode), or None for what nothing tells of.
    """

    names: Sequence[str] | None
    sizes: np.ndarray
    read: Callable[[int], bytes]
    identities: Sequence[Hashable | None] = ()

    def name(self, place: int) -> str:
        """What an example is called in a message."""
        return self.names[place] if self.names is not None else f"row {place}"


def refuse_overlap(train: Part, validation: Part, where: str) -> list[str]:
    """Compares the two splits of a set.

    Copies are found by size and bytes. One of the same name (its last part), or more than one in a hundred, are an
    overlap; a few of other names are not, as published sets have them, and are said.

    Args:
        train: what is trained on.
        validation: what is kept out of training.
        where: the set, for messages.

    Returns:
        A sentence about copies that are tolerated, or nothing.

    Raises:
        DataError: the splits overlap; says by how much, and names an example.
    """
    place_of = {identity: place for place, identity in enumerate(train.identities) if identity is not None}
    same = [(place, place_of[identity]) for place, identity in enumerate(validation.identities) if identity in place_of]
    if same:
        raise _overlap(train, validation, same, len(validation.sizes), where)
    copies, compared = _copies(train, validation)
    named = [pair for pair in copies if _last_names_equal(train, validation, pair)]
    if named or len(copies) > TOLERATED_SHARE * compared:
        raise _overlap(train, validation, copies, compared, where)
    if not copies:
        return []
    place, other = copies[0]
    return [
        f"{where}: {len(copies)} of {compared} validation examples have the bytes of a training example, such as"
        f" {validation.name(place)} and {train.name(other)}"
    ]


def _copies(train: Part, validation: Part) -> tuple[list[tuple[int, int]], int]:
    """Places in validation and training with equal bytes, and how many of validation were looked at."""
    count = len(validation.sizes)
    step = max(1, -(-count // MOST_COMPARED))
    probed = range(0, count, step)
    wanted = np.unique(np.asarray(validation.sizes)[::step])
    by_size: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(np.isin(train.sizes, wanted)).tolist():
        by_size[int(train.sizes[place])].append(place)
    copies = []
    contents: dict[int, dict[bytes, int]] = {}
    for place in sorted(probed, key=lambda place: int(validation.sizes[place])):
        size = int(validation.sizes[place])
        if size <= 0 or size not in by_size:
            continue
        if size not in contents:
            contents = {size: {train.read(other): other for other in reversed(by_size[size])}}
        other = contents[size].get(validation.read(place))
        if other is not None:
            copies.append((place, other))
    return sorted(copies), len(probed)


def _last_names_equal(train: Part, validation: Part, pair: tuple[int, int]) -> bool:
    if train.names is None or validation.names is None:
        return False
    place, other = pair
    return validation.names[place].rpartition("/")[2] == train.names[other].rpartition("/")[2]


def _overlap(train: Part, validation: Part, pairs: Sequence[tuple[int, int]], compared: int, where: str) -> DataError:
    place, other = pairs[0]
    return DataError(
        f"{where}: {len(pairs)} of {compared} validation examples are training examples, such as"
        f" {validation.name(place)} ({train.name(other)} in training); expected two sets that share none"
    )
