"""`vocl show RUN`: a contact sheet of what a run sees in a held-out video, beside the truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vocl import assemble
from vocl.commands.overlay import spaced, write_picture
from vocl.commands.predict import device_of
from vocl.commands.segmented import segment, window
from vocl.commands.sheet import SHEET, picture
from vocl.config.run_config import RunConfig
from vocl.errors import UserError
from vocl.files import user_path
from vocl.interface import Source, Video
from vocl.loading import load


def show(run: str, values: dict[str, Any]) -> Path:
    """Write the picture of `run`, as `values` (see `key_values.SHOW`) say; returns its path.

    The video is segmented up to its end.
    """
    device = device_of(values["runtime.device"])
    loaded = load(run, values["runtime.root"], device)
    config = loaded.config
    if values["runtime.data_root"] is not None:
        runtime = replace(config.runtime, data_root=values["runtime.data_root"])
        config = replace(config, runtime=runtime)
    source = assemble.make_source(config, split_of(config))
    video, dataset = _video(source, values["video"]), assemble.make_dataset(config)
    shown = spaced(video.length, SHEET["columns"])
    frames, labels = [], []
    for start, seen, found, *_ in segment(
        loaded.model,
        _windows(video, window(loaded.model, video.length)),
        dataset,
        dataset.fit,
        device,
        video.name,
    ):
        here = [n - start for n in shown if start <= n < start + len(seen)]
        frames.append(seen[here])
        labels.append(found[here])
    truth = source.truth(video.name)
    true = None if truth is None else truth.labels("paint")[0][shown]
    sheet = picture(np.concatenate(frames), np.concatenate(labels), true, shown, video.name)
    out = user_path(values["out"]) if values["out"] else loaded.run.path / "overlay.png"
    _write(out, sheet)
    return out


def split_of(config: RunConfig) -> str:
    """The split that the first evaluation on the run's own dataset scores; without one, validation."""
    names = (name for name, own in config.eval.items() if own.dataset is None)
    first = next(names, None)
    return "validation" if first is None else assemble.make_evaluation(config, first).split


def _windows(video: Video, size: int):
    """(first frame, uint8 t h w 3) of consecutive windows of `size` frames."""
    for start in range(0, video.length, size):
        yield start, np.ascontiguousarray(video.frames(range(start, min(start + size, video.length))))


def _video(source: Source, name: str | None) -> Video:
    if len(source) == 0:
        raise UserError("dataset: its held-out split has no videos")
    if name is None:
        return source[0]
    videos = [source[i] for i in range(len(source))]
    found = [v for v in videos if v.name == name]
    if not found:
        some = ", ".join(v.name for v in videos[:5]) + (" ..." if len(videos) > 5 else "")
        raise UserError(f"video={name}: no such video, choose from {some}")
    return found[0]


def _write(out: Path, sheet: np.ndarray) -> None:
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UserError(f"out={out}: choose a name that ends with .png or .jpg")
    try:
        write_picture(out, sheet)
    except OSError as error:
        raise UserError(f"out={out}: cannot write there: {error.strerror or error}") from None
