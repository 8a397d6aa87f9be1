"""Pictures of several videos as one file, of the kind that its suffix says."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vocl.commands.pictures.overlay import VOID, OverlayWriter, blend, write_picture
from vocl.commands.pictures.sheet import GAP_PX, PAPER, enlarged, stacked
from vocl.errors import UserError
from vocl.files import atomic_path, write_text
from vocl.interface import Video

PICTURES = (".png", ".jpg", ".jpeg")
DOCUMENTS = (".pdf", ".svg")
FILM = ".mp4"
OPACITY = 0.55  # of a film
FILM_FPS = 10.0  # where a video does not say its own rate
WINDOW = 8  # frames in memory at once
PDF_DPI = 150.0


def refuse_suffix(out: Path) -> None:
    """Refuse a file of no kind that can be written."""
    known = (*PICTURES, *DOCUMENTS, FILM)
    if out.suffix.lower() not in known:
        raise UserError(f"out={out}: choose a name that ends with {', '.join(known[:-1])} or {FILM}")


def write_sheets(out: Path, sheets: Sequence[np.ndarray]) -> None:
    """Write sheets, uint8 h w 3 each: a page each in a PDF, below each other in other files."""
    suffix = out.suffix.lower()
    if suffix == ".pdf":
        first, *others = map(Image.fromarray, sheets)
        with atomic_path(out) as temporary:
            first.save(temporary, format="PDF", save_all=True, append_images=others, resolution=PDF_DPI)
    elif suffix == ".svg":
        write_text(out, _svg(stacked(sheets)))
    else:
        write_picture(out, stacked(sheets) if len(sheets) > 1 else sheets[0])


def _svg(pixels: np.ndarray) -> str:
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "PNG")
    height, width = pixels.shape[:2]
    data = base64.b64encode(packed.getvalue()).decode()
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" '
        f'href="data:image/png;base64,{data}"/></svg>\n'
    )


def write_film(out: Path, video: Video, labels: Mapping[str, np.ndarray], truth: np.ndarray | None) -> None:
    """Write all frames of `video` beside each of `labels` (by name) and the truth laid over them."""
    fps = getattr(video, "fps", None) or FILM_FPS  # kinds of videos that have a clock say it
    names = ["frame", *labels, *(["truth"] if truth is not None else [])]
    with OverlayWriter(out, fps) as writer:
        for start in range(0, video.length, WINDOW):
            here = slice(start, min(start + WINDOW, video.length))
            frames = enlarged(np.ascontiguousarray(video.frames(range(here.start, here.stop))))
            tiles = list(_tiles(frames, labels, truth, here))
            writer.write(_beside(tiles, names))


def _tiles(
    frames: np.ndarray, labels: Mapping[str, np.ndarray], truth: np.ndarray | None, here: slice
) -> Iterator[np.ndarray]:
    outline = max(1, round(min(frames.shape[1:3]) / 360))
    yield frames
    for own in labels.values():
        yield blend(frames, enlarged(own[here]), OPACITY, outline)
    if truth is not None:
        yield blend(frames, enlarged(truth[here]), OPACITY, outline, clear=(0, VOID))


def _beside(tiles: Sequence[np.ndarray], names: Sequence[str]) -> np.ndarray:
    """Films t h w 3 beside each other, with their names above them."""
    length, _, width = tiles[0].shape[:3]
    font = ImageFont.load_default(size=max(10, min(16, width // 12)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # it is where a size is asked for
    gap = np.full((*tiles[0].shape[:2], GAP_PX, 3), PAPER, np.uint8)
    row = np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=2)
    head = Image.new("RGB", (row.shape[2], int(font.size * 1.5)), "white")
    draw = ImageDraw.Draw(head)
    for number, name in enumerate(names):
        x = number * (width + GAP_PX) + width / 2
        draw.text((x, head.height / 2), name, "black", font, anchor="mm")
    return np.concatenate([np.repeat(np.asarray(head)[None], length, axis=0), row], axis=1)
