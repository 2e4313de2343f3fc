"""Seeds derived from names and numbers. Free of torch."""

import hashlib


def derived_seed(*parts: int | str) -> int:
    """A 63-bit seed from a tuple of numbers and names (BLAKE2b, so the same on every machine).

    Names of files may hold bytes that are not UTF-8, as Python represents them.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest(), "little") >> 1
