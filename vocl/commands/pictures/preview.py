"""A picture of what a store holds: frames of some videos, and their masks over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vocl.commands.pictures.overlay import contact_sheet, spaced, write_picture
from vocl.commands.pictures.sheet import SHEET, stacked
from vocl.data.store import splits
from vocl.data.store.layout import MASK
from vocl.data.store.reading import Entry, Store
from vocl.data.store.source import StoredVideo
from vocl.errors import UserError
from vocl.files import user_path


def draw(folder: Path, values: dict[str, Any]) -> Path:
    """Write the picture, as `values` (see `key_values.PREVIEW`) say; returns its path."""
    store = Store(folder)
    names = splits.names(folder)
    split = values["split"] or ("validation" if "validation" in names else next(iter(names), ""))
    listed = splits.read(folder, split, store.manifest.annotation, store.entries)
    out = user_path(values["out"])
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"out={out}: choose a name that ends with .png or .jpg")
    sheets = [_sheet(store.entries[name]) for name in _chosen(listed, values["videos"])]
    try:
        write_picture(out, stacked(sheets))
    except OSError as error:
        raise UserError(f"out={out}: cannot write there: {error.strerror or error}") from None
    return out


def _chosen(listed: list[str], videos: str) -> list[str]:
    """So many videos, evenly spaced, or the one of that name."""
    if videos in listed:
        return [videos]
    if not videos.isdecimal() or int(videos) == 0:
        raise UserError(f"videos={videos}: expected a number from 1, or a name, such as {listed[0]}")
    return [listed[i] for i in spaced(len(listed), int(videos))]


def _sheet(entry: Entry) -> np.ndarray:
    video = StoredVideo(entry)
    shown = spaced(video.length, SHEET["columns"])
    truth = video.labels(shown) if entry.has(MASK) or entry.has("objects") else None
    title = f"{entry.name} ({entry.split}), {entry.length} frames of {entry.size[1]}x{entry.size[0]}"
    return contact_sheet(video.frames(shown), {}, truth, numbers=shown, title=title, **SHEET)
