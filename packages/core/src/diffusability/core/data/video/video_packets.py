"""What a packet of a compressed video says of its pictures, read from its first bits, without decoding it."""

from collections.abc import Callable, Iterator

import attrs


@attrs.frozen(kw_only=True)
class PacketContent:
    """The pictures of one packet.

    Attributes:
        shown: how many pictures (or fields) it brings to the screen.
        starts: nothing that is shown after it depends on what was decoded before it.
    """

    shown: int
    starts: bool


PacketReader = Callable[[memoryview], PacketContent | None]
"""Of the bytes of a packet; None where they say nothing certain."""


def _nal_units(data: memoryview, length_bytes: int) -> Iterator[memoryview]:
    """The units of a packet in which each follows its length (ISO/IEC 14496-15)."""
    place = 0
    while place + length_bytes < len(data):
        size = int.from_bytes(data[place : place + length_bytes], "big")
        place += length_bytes
        yield data[place : place + size]
        place += size


def _h264(length_bytes: int) -> PacketReader:
    """ITU-T H.264: unit types 7.4.1; a picture begins with a slice whose ``first_mb_in_slice`` is 0 (7.3.3)."""

    def read(data: memoryview) -> PacketContent | None:
        shown, starts = 0, False
        for unit in _nal_units(data, length_bytes):
            kind = unit[0] & 31 if len(unit) > 1 else 0
            if kind in (2, 3, 4, 20, 21):  # partitioned slices, layers and views
                return None
            if kind in (1, 5):
                shown += unit[1] >> 7
                starts |= kind == 5  # an IDR picture
        return PacketContent(shown=shown, starts=starts)

    return read


def _hevc(length_bytes: int) -> PacketReader:
    """ITU-T H.265: unit types 7.4.2.2; from a random access picture (16 to 21) on, what is shown later is complete."""

    def read(data: memoryview) -> PacketContent | None:
        shown, starts = 0, False
        for unit in _nal_units(data, length_bytes):
            kind = unit[0] >> 1 & 63 if len(unit) > 2 else 63
            layer = (unit[0] & 1) << 5 | unit[1] >> 3 if len(unit) > 2 else 0
            if kind in (36, 37) or layer:  # the end of a sequence; a second layer
                return None
            if kind < 32:
                shown += unit[2] >> 7  # first_slice_segment_in_pic_flag
                starts |= 16 <= kind <= 21
        return PacketContent(shown=shown, starts=starts)

    return read


def _vp8(data: memoryview) -> PacketContent | None:
    """RFC 6386, 9.1: a bit each for "not a key frame" and "shown"."""
    return PacketContent(shown=data[0] >> 4 & 1, starts=not data[0] & 1) if len(data) else None


def _vp9(data: memoryview) -> PacketContent | None:
    """The VP9 bitstream's annex B (superframes) and 6.2 (the uncompressed header); profiles 0 to 2."""
    if not len(data):
        return None
    sizes = [len(data)]
    mark = data[-1]
    if mark >> 5 == 0b110:
        count, width = (mark & 7) + 1, (mark >> 3 & 3) + 1
        table = data[len(data) - 1 - count * width : len(data) - 1]
        if len(table) == count * width and data[len(data) - 2 - count * width] == mark:
            sizes = [int.from_bytes(table[n * width : (n + 1) * width], "little") for n in range(count)]
    place = shown = 0
    starts = False
    for number, size in enumerate(sizes):
        head = data[place] if place < len(data) else 0
        if head >> 6 != 0b10 or head >> 4 & 3 == 3:
            return None
        again = head >> 3 & 1  # shows a frame that was decoded earlier
        shown += again or head >> 1 & 1
        starts |= number == 0 and not again and not head >> 2 & 1
        place += size
    return PacketContent(shown=shown, starts=starts)


def packet_reader(codec: str, extradata: bytes | None) -> PacketReader | None:
    """The reader for a codec in an MP4 or Matroska file, or None for one whose packets have to be decoded.

    ``extradata`` is the stream's ``avcC`` or ``hvcC`` record.
    """
    if codec == "vp8":
        return _vp8
    if codec == "vp9":
        return _vp9
    if codec == "h264" and extradata is not None and len(extradata) > 4 and extradata[0] == 1:
        return _h264((extradata[4] & 3) + 1)
    if codec == "hevc" and extradata is not None and len(extradata) > 21 and extradata[0] == 1:
        return _hevc((extradata[21] & 3) + 1)
    return None
