"""Whether image files are whole: Pillow fills a hole of a JPEG with grey, and may overlook that of a PNG."""

from __future__ import annotations

import functools
import re
import zlib
from pathlib import Path

from vocl.errors import UserError

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8"
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
_TAIL_BYTES = 4096  # some writers put a few bytes behind the end of an image


def check_whole(path: Path) -> None:
    """Refuse a JPEG or PNG whose end is missing, by its last bytes where they will do. UserError."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read()
    if b"\xff\xd9" not in tail and b"IEND" not in tail and not _ends_inside(path.read_bytes()):
        raise UserError(f"{path}: does not decode, its end is missing")


def refuse_a_hole(path: Path) -> None:
    """Refuse a JPEG or PNG of which a part is missing or damaged, at the cost of reading it. UserError."""
    stat = path.stat()
    _refuse_a_hole(path, stat.st_size, stat.st_mtime_ns)


@functools.cache  # of what is whole: a file's later readings cost nothing
def _refuse_a_hole(path: Path, size: int, mtime_ns: int) -> None:
    refuse_a_hole_in(path.read_bytes(), path)


def refuse_a_hole_in(data: bytes, place: object) -> None:
    """Refuse the bytes of a JPEG or PNG as `refuse_a_hole` does a file. `place`: what messages call it."""
    if data.startswith(_PNG):
        whole = _ends_png(data, sums=True)
    elif data.startswith(_JPEG):
        whole = _fills_its_picture(data)
    else:
        return
    if not whole:
        raise UserError(f"{place}: does not decode, a part of it is missing or damaged")


def _fills_its_picture(data: bytes) -> bool:
    """Whether a JPEG has bits for all of its picture, as far as another decoder than Pillow's can tell."""
    import av

    decoder = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode"}
    decoder.thread_count = 1
    try:
        decoder.decode(av.Packet(data))
        decoder.decode(None)
    except av.error.InvalidDataError:
        return False
    except av.error.FFmpegError:  # a kind of JPEG that only Pillow knows
        pass
    return True


def _ends_inside(data: bytes) -> bool:
    """Whether a JPEG or PNG has its end before other data, such as the film of a motion photo."""
    if data.startswith(_PNG):
        return _ends_png(data)
    return data.startswith(_JPEG) and _ends_jpeg(data)


def _ends_png(data: bytes, sums: bool = False) -> bool:
    """Whether chunk follows chunk up to the end; `sums`: and each has its checksum."""
    at = len(_PNG)
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        name, found = data[at + 4 : at + 8], int.from_bytes(data[end : end + 4], "big")
        if sums and zlib.crc32(memoryview(data)[at + 4 : end]) != found:
            return False
        if name == b"IEND":
            return True
        at = end + 4
    return False


def _ends_jpeg(data: bytes) -> bool:
    """Whether segment follows segment up to the end."""
    at = len(_JPEG)
    while data[at : at + 1] == b"\xff":
        marker = data[at + 1 : at + 2]
        if marker == b"\xd9":
            return True
        if marker == b"\xff":  # a fill byte
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == b"\xda":  # a scan: its bytes go on to the next marker that is no part of it
            found = _MARKER.search(data, at)
            at = found.start() if found else len(data)
    return False
