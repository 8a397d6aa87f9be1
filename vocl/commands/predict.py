"""`vocl predict video=FILE checkpoint=RUN`: the segmentation of videos of one's own.

Writes a folder per video, with `labels/00000.png` ... (indexed, at the size of the source),
`overlay.mp4` and `sheet.png`, or what `write` names (see `prediction_files`). A video is read, segmented and
written a few frames at a time, so that memory does not grow with its length, unless the model needs
all of it at once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vocl import assemble
from vocl.commands.key_values import items_of
from vocl.commands.prediction_files import OUTPUTS, write_facts
from vocl.commands.segmented import Segmented, segment, window
from vocl.data.images import frame_files
from vocl.data.reader import VIDEO_SUFFIXES, VideoReader, open_video
from vocl.errors import UserError
from vocl.files import user_path
from vocl.loading import Loaded, load, pick_device
from vocl.rundir.new_folder import new_folder
from vocl.stop import EXIT_STOPPED, StopFlag, Stopped, stop_on_signal

FITS = ("crop", "stretch", "pad")
USUAL = ("labels", "overlay", "sheet")  # what is written unless `write` says otherwise


@dataclass(frozen=True)
class Request:
    """What a command line asks for: `paths` of videos; `many`: whether it is more than one by its form.

    `out`: the folder of the one video, or that of the folders of many; None: one beside the others in
    `predictions`.
    """

    paths: tuple[Path, ...]
    many: bool
    run: Loaded
    out: Path | None
    write: tuple[str, ...]
    fps: float | None
    max_frames: int | None
    fit: str
    device: torch.device

    def folder(self, path: Path) -> Path:
        """Where the outputs of the video `path` go."""
        if self.out is None:
            return Path("predictions") / f"{name_of(path)}-{self.run.run.path.resolve().name}"
        return self.out / name_of(path) if self.many else self.out


def run(values: dict[str, Any]) -> int:
    """Segment videos as `values` (see `key_values.PREDICT`) say; returns the exit code.

    0 done, 1 when some of many videos failed, 75 stopped by a signal. A folder that is not complete is
    not left behind.
    """
    written = 0
    request = _request(values)
    try:
        with stop_on_signal() as stop:
            failed = 0
            for number, path in enumerate(request.paths, 1):
                try:
                    for file in predict(request, path, number, stop):
                        print(file)
                    written += 1
                except UserError as error:
                    if not request.many:
                        raise
                    failed += 1
                    print(f"failed: {error}", file=sys.stderr)
    except Stopped as stopped:
        done = f"; {written} of {len(request.paths)} videos were written" if request.many else ""
        print(f"stopped at {stopped}{done or '; nothing was written'}", file=sys.stderr)
        return EXIT_STOPPED
    if failed:
        print(f"{failed} of {len(request.paths)} videos failed", file=sys.stderr)
    return 1 if failed else 0


def predict(request: Request, path: Path, number: int, stop: StopFlag) -> list[Path]:
    """Write the folder of the video `path`, the `number`th; returns what is in it. Raises `Stopped` when
    `stop` is set on the way."""
    model, config, out = request.run.model, request.run.config, request.folder(path)
    video = open_video(path, request.fps, request.max_frames)
    windows = segment(
        model,
        video.windows(window(model, video.length)),
        assemble.make_dataset(config),
        request.fit,
        request.device,
        video.name,
    )
    with new_folder(out, "out") as folder, ExitStack() as stack:
        outputs = [stack.enter_context(OUTPUTS[kind](folder, video, number)) for kind in request.write]
        for part in _watched(windows, video, stop):
            for output in outputs:
                output.write(part)
        size_px = list(config.dataset.size_px)
        facts = {"run": request.run.run.path.resolve().name, "fit": request.fit, "size_px": size_px}
        write_facts(folder, video, facts)
    return [out / output.name for output in outputs]


def _watched(windows: Iterator[Segmented], video: VideoReader, stop: StopFlag) -> Iterator[Segmented]:
    """The windows with a progress bar on a terminal; ends with `Stopped` when asked to."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with ExitStack() as stack:
        bar = stack.enter_context(Progress(console=console, transient=True)) if console.is_terminal else None
        task = bar.add_task("frames", total=video.length) if bar else None
        for part in windows:
            if stop:
                raise Stopped(f"frame {part.start} of {video.length} of {video.name}")
            yield part
            if bar is not None and task is not None:
                bar.advance(task, len(part.frames))


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


def name_of(path: Path) -> str:
    """What a video is called."""
    return path.resolve().name if path.is_dir() else path.stem


def videos_of(text: str) -> tuple[tuple[Path, ...], bool]:
    """The videos that `video=text` names, and whether it may be many: a list, a pattern with * or ?, or
    a folder of video files. Any other folder is one video, of frames. UserError."""
    path = user_path(text)
    if path.is_dir():
        found = _video_files(path)
        return (found or (path,)), bool(found)
    listed = items_of(text)
    if path.exists() or (len(listed) == 1 and listed[0] == text and not _is_pattern(text)):
        return (path,), False
    paths = [found for item in listed for found in _matching(item)]
    if not paths:
        raise UserError("video=[]: names no video")
    return tuple(dict.fromkeys(paths)), True


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?")


def _matching(text: str) -> Sequence[Path]:
    path = user_path(text)
    if path.exists() or not _is_pattern(text):
        return [path]
    anchor = Path(path.anchor or ".")
    found = sorted(p for p in anchor.glob(str(path.relative_to(path.anchor))) if not p.name.startswith("."))
    if not found:
        raise UserError(f"video={text}: no file or folder has such a name")
    return found


def _video_files(folder: Path) -> tuple[Path, ...]:
    """The video files in `folder`, by name. UserError where it holds frames as well."""
    suffixes = (*VIDEO_SUFFIXES, ".gif")
    names = (p for p in folder.iterdir() if p.suffix.lower() in suffixes and not p.name.startswith("."))
    found = tuple(sorted(p for p in names if p.is_file()))
    if found and frame_files(folder):
        raise UserError(
            f"video={folder}: holds frames and video files; for these give "
            f"video='{folder}/*{found[0].suffix}', the frames need a folder of their own"
        )
    return found


def _request(values: dict[str, Any]) -> Request:
    if values["fit"] not in (None, *FITS):
        raise UserError(f"fit={values['fit']}: choose from {', '.join(FITS)}")
    write = tuple(dict.fromkeys(items_of(values["write"]))) if values["write"] else USUAL
    unknown = [kind for kind in write if kind not in OUTPUTS]
    if unknown or not write:
        raise UserError(f"write={values['write']}: choose from {', '.join(OUTPUTS)}")
    fps, most = number(values, "fps", float), number(values, "max_frames", int)
    paths, many = videos_of(values["video"])
    _refuse_one_name(paths)
    if not many:
        open_video(paths[0], fps, most)  # before the weights are read
    device = device_of(values["runtime.device"])
    run = load(values["checkpoint"], values["runtime.root"], device)
    if "slots" in write and "slots" not in run.model.answers:
        raise UserError("write=slots: this model gives no slots, only masks")
    out = user_path(values["out"]) if values["out"] else None
    return Request(paths, many, run, out, write, fps, most, values["fit"] or run.config.dataset.fit, device)


def _refuse_one_name(paths: Sequence[Path]) -> None:
    """Refuse two videos of one name, which would have one folder."""
    named: dict[str, Path] = {}
    for path in paths:
        other = named.setdefault(name_of(path), path)
        if other != path:
            raise UserError(f"video: {other} and {path} have one name; give each a command of its own")
