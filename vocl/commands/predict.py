"""`vocl predict video=FILE checkpoint=RUN`: the segmentation of a video of one's own.

Writes a folder with `labels/00000.png` ... (indexed, at the size of the source), `overlay.mp4` and
`sheet.png`. The video is read, segmented and written a few frames at a time, so that memory does
not grow with its length, unless the model needs all of it at once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vocl import assemble
from vocl.commands.overlay import OverlayWriter, blend, contact_sheet, spaced, write_label_map, write_picture
from vocl.config.sections import Dataset
from vocl.data.reader import VideoReader, open_video
from vocl.data.transforms import crop_box, pad_box, to_input
from vocl.errors import UserError
from vocl.evaluate import segmenting
from vocl.files import user_path
from vocl.interface import VOID, Clip, Grid, SegmentOptions, VideoModel
from vocl.loading import Loaded, load, pick_device
from vocl.ops.masks import hard_masks
from vocl.ops.narrow import pair
from vocl.ops.random import seed_of
from vocl.rundir.new_folder import new_folder
from vocl.stop import EXIT_STOPPED, StopFlag, Stopped, stop_on_signal

FITS = ("crop", "stretch", "pad")
WINDOW = 8  # frames in memory at once
FOLDER_FPS = 10.0  # of the overlay of a folder of frames, which has no clock
OPTIONS = SegmentOptions(cyclic=False, iterations=None, seed=0)
SHEET: dict[str, Any] = {"columns": 8, "cell_px": 240, "opacity": 0.7, "outline": 1}
SMALL_PX = 160  # frames of a sheet narrower than this are enlarged by a whole factor
OPACITY = 0.55  # of the overlay video


class Segmented(NamedTuple):
    """A window of a video: `frames` uint8 t h w 3 from frame `start` on; `labels` uint8 t h w."""

    start: int
    frames: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    video: VideoReader
    run: Loaded
    out: Path
    fit: str
    device: torch.device


def run(values: dict[str, Any]) -> int:
    """Segment a video as `values` (see `key_values.PREDICT`) say; returns the exit code.

    0 done, 75 stopped by a signal. A folder that is not complete is not left behind.
    """
    try:
        with stop_on_signal() as stop:
            out = predict(_request(values), stop)
    except Stopped as stopped:
        print(f"stopped at {stopped}; nothing was written", file=sys.stderr)
        return EXIT_STOPPED
    for name in ("labels", "overlay.mp4", "sheet.png"):
        print(out / name)
    return 0


def predict(request: Request, stop: StopFlag) -> Path:
    """Write the folder `request.out`; raises `Stopped` when `stop` is set on the way."""
    video, model, dataset = request.video, request.run.model, assemble.make_dataset(request.run.config)
    windows = segment(
        model, video.windows(window(model, video.length)), dataset, request.fit, request.device, video.name
    )
    with new_folder(request.out, "out") as folder:
        _write(folder, video, _watched(windows, video.length, stop))
    return request.out


def window(model: VideoModel, length: int) -> int:
    """Frames that `model` is given at a time of a video of `length` frames."""
    return length if model.whole_video else WINDOW


def segment(
    model: VideoModel,
    windows: Iterable[tuple[int, np.ndarray]],
    dataset: Dataset,
    fit: str,
    device: torch.device,
    name: str,
) -> Iterator[Segmented]:
    """Labels (slot numbers) at the size of the source for consecutive windows (start, uint8 t h w 3).

    The state is carried from window to window. Pixels that the model does not see are `VOID`.
    """
    size_px, carry = pair(dataset.size_px), None
    key = torch.tensor([seed_of(OPTIONS.seed, "evaluation", name)])
    for start, frames in windows:
        video = to_input(torch.from_numpy(frames), size_px, fit, dataset.normalise).unsqueeze(0)
        clip = Clip(video=video, valid=torch.ones(video.shape[:2], dtype=torch.bool), key=key, names=(name,))
        found = segmenting.segment(model, clip.to(device), OPTIONS, carry)
        carry = found.carry
        assert found.masks.shape[2] <= VOID, "label maps hold at most 255 slots"
        yield Segmented(
            start, frames, labels_at_source(found.masks[0], found.grid, pair(frames.shape[1:3]), size_px, fit)
        )


def labels_at_source(
    masks: Tensor, grid: Grid, size: tuple[int, int], size_px: tuple[int, int], fit: str
) -> np.ndarray:
    """Soft masks t k n of frames fitted to `size_px` as label maps t h w of `size`, frame by frame.

    "crop": outside of the window `VOID`; "pad": the padding is cut off.
    """
    labels = np.full((len(masks), *size), VOID, np.uint8)
    for frame, soft in zip(labels, masks, strict=True):
        soft = soft[None, None].float()
        if fit == "crop":
            top, left, height, width = crop_box(size, size_px, 0.5)
            inside = hard_masks(soft, grid, (height, width))
            frame[top : top + height, left : left + width] = inside[0, 0].cpu().numpy()
        elif fit == "pad":
            frame[:] = _without_padding(soft, grid, size, size_px)
        else:
            frame[:] = hard_masks(soft, grid, size)[0, 0].cpu().numpy()
    return labels


def _without_padding(soft: Tensor, grid: Grid, size: tuple[int, int], size_px: tuple[int, int]) -> np.ndarray:
    """The labels of the source's pixels alone, sampled where they lie in the padded input."""
    top, left, height, width = pad_box(size, size_px)
    y = (top + (torch.arange(size[0], device=soft.device) + 0.5) * height / size[0]) / size_px[0] * 2 - 1
    x = (left + (torch.arange(size[1], device=soft.device) + 0.5) * width / size[1]) / size_px[1] * 2 - 1
    points = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).unsqueeze(0)
    planes = soft[0].unflatten(-1, tuple(grid))
    sampled = F.grid_sample(planes, points, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled[0].max(dim=0).indices.cpu().numpy()  # several times as fast as argmax


def _write(folder: Path, video: VideoReader, windows: Iterable[Segmented]) -> None:
    shown = spaced(video.length, SHEET["columns"])
    outline = max(1, round(min(video.size) / 360))
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    with OverlayWriter(folder / "overlay.mp4", video.fps or FOLDER_FPS) as overlay:
        for start, frames, labels in windows:
            for number, label in enumerate(labels, start):
                write_label_map(folder / "labels" / f"{number:05d}.png", label)
            overlay.write(blend(frames, labels, OPACITY, outline))
            kept += [
                (frames[n - start].copy(), labels[n - start])
                for n in shown
                if start <= n < start + len(frames)
            ]
    frames, labels = (np.stack(images) for images in zip(*kept, strict=True))
    sheet = picture(frames, labels, None, shown, video.name)
    write_picture(folder / "sheet.png", sheet)


def picture(
    frames: np.ndarray, labels: np.ndarray, truth: np.ndarray | None, numbers: Sequence[int], title: str
) -> np.ndarray:
    """A contact sheet of chosen frames; small frames are enlarged pixel by pixel."""
    factor = max(1, round(SMALL_PX / frames.shape[2]))
    frames, labels = _enlarged(frames, factor), _enlarged(labels, factor)
    truth = None if truth is None else _enlarged(truth, factor)
    settings = SHEET | {"cell_px": min(SHEET["cell_px"], frames.shape[2])}
    return contact_sheet(frames, labels, truth, numbers=numbers, title=title, **settings)


def _enlarged(images: np.ndarray, factor: int) -> np.ndarray:
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def _watched(windows: Iterator[Segmented], length: int, stop: StopFlag) -> Iterator[Segmented]:
    """The windows with a progress bar on a terminal; ends with `Stopped` when asked to."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(console=console, transient=True)) if console.is_terminal else None
        task = bar.add_task("frames", total=length) if bar else None
        for window in windows:
            if stop:
                raise Stopped(f"frame {window.start} of {length}")
            yield window
            if bar is not None and task is not None:
                bar.advance(task, len(window.frames))


# --------------------------------------------------------------------------------- the command line


def number(values: dict[str, Any], key: str, kind: type) -> Any:
    """`values[key]` as a number above 0, or None."""
    if values[key] is None:
        return None
    try:
        value = kind(values[key])
    except ValueError:
        value = 0
    if not (math.isfinite(value) and value > 0):
        words = "a whole number" if kind is int else "a number"
        raise UserError(f"{key}={values[key]}: expected {words} above 0, or null")
    return value


def device_of(name: str) -> torch.device:
    """The device of runtime.device=`name`."""
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"runtime.device={name}: choose from auto, cpu, cuda")
    return pick_device(name)


def _request(values: dict[str, Any]) -> Request:
    if values["fit"] not in (None, *FITS):
        raise UserError(f"fit={values['fit']}: choose from {', '.join(FITS)}")
    path = user_path(values["video"])
    video = open_video(path, number(values, "fps", float), number(values, "max_frames", int))
    device = device_of(values["runtime.device"])
    run = load(values["checkpoint"], values["runtime.root"], device)
    name = f"{video.name}-{run.run.path.resolve().name}"
    out = user_path(values["out"]) if values["out"] else Path("predictions") / name
    return Request(video, run, out, values["fit"] or run.config.dataset.fit, device)
