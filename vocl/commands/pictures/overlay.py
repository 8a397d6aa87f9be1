"""Pictures of segmentations: overlays, label maps, videos and contact sheets, at the size of the source.

Labels are slot indices from 0 (a prediction) or 0 background, 1.. objects, 255 void (a truth, for
which `clear` names what stays unpainted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vocl.files import atomic_path
from vocl.ops.palette import palette

if TYPE_CHECKING:
    from av import VideoStream

VOID = 255  # interface.VOID, whose module costs the import of torch

_MARGIN_PX = 4
_TICK = Fraction(1, 90_000)  # seconds: what the times of a video are counted in


def blend(
    frames: np.ndarray,
    labels: np.ndarray,
    opacity: float,
    outline: int,
    clear: Sequence[int] = (VOID,),
) -> np.ndarray:
    """Lay the labels' colours over frames.

    `frames` uint8 t h w 3; `labels` integers t h w in 0..255; `opacity` of the colour in 0..1;
    `outline`: pixels next to another label, this deep, are drawn as a line, a darker or lighter
    shade of their label's colour (0: no line);
    `clear`: labels that are not painted. Returns uint8 t h w 3.
    """
    assert frames.shape == (*labels.shape, 3), (frames.shape, labels.shape)
    assert 0 <= opacity <= 1, opacity
    colours, lines = palette().astype(np.float32), _line_colours()
    strength = np.full(256, opacity, np.float32)
    strength[list(clear)] = 0
    out = np.empty_like(frames)
    for t, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        share = strength[label][..., None]
        out[t] = (frame * (1 - share) + colours[label] * share + 0.5).astype(np.uint8)
        if outline:
            line = _edges(label, outline) & (share[..., 0] > 0)
            out[t][line] = lines[label[line]]
    return out


def like_truth(labels: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Give the slots of a whole video the numbers, and so the colours, of the true objects that are theirs.

    Objects have slots one to one, by the highest sum of overlaps (IoU over the video). Any other slot gets
    a number that no object has. `labels`, `truth` uint8 t h w, as returned.
    """
    from itertools import cycle

    import torch

    from vocl.metrics.contingency import contingency
    from vocl.metrics.overlap import OBJECTS
    from vocl.ops.matching import assign

    count = int(truth.max(initial=0, where=truth != VOID)) + 1
    slots = torch.from_numpy(labels).short()  # one more number than fits into uint8
    table = contingency(torch.from_numpy(truth), slots, count, VOID + 1).sum(0)
    overlap = OBJECTS.iou(table[:, :VOID]).numpy()
    pairs = zip(*assign(overlap), strict=True)
    theirs = {slot: number + 1 for number, slot in pairs if overlap[number, slot] > 0}
    free = cycle([number for number in range(VOID) if not 0 < number < count])
    names = np.full(VOID + 1, VOID, np.uint8)
    for slot in np.unique(labels[labels != VOID]):
        names[slot] = theirs[slot] if slot in theirs else next(free)
    return names[labels]


def write_label_map(path: Path, labels: np.ndarray) -> None:
    """Write `labels` h w (integers in 0..255) as an indexed 8-bit PNG: the value of a pixel is its label."""
    assert labels.ndim == 2 and labels.min() >= 0 and labels.max() <= 255, (labels.shape, labels.max())
    image = Image.fromarray(labels.astype(np.uint8)).convert("L")
    image.putpalette(palette().tobytes())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG", bits=8)


def write_picture(path: Path, pixels: np.ndarray) -> None:
    """Write `pixels` uint8 h w 3 as the kind of picture that the suffix of `path` says."""
    with atomic_path(path) as temporary:
        Image.fromarray(pixels).save(temporary, quality=90)


class OverlayWriter:
    """An .mp4 written window by window; it appears at `path` when the `with` block ends without error.

    H.264 where the library has the encoder, else MPEG-4. Odd sizes are padded by repeating the last
    row or column, as the codecs demand. All frames have one size. `pixel_aspect`: how many times as wide
    as high a player is to show a pixel.
    """

    def __init__(self, path: Path, fps: float, pixel_aspect: Fraction = Fraction(1)) -> None:
        assert fps > 0, fps
        self._pixel_aspect, self._stamp = pixel_aspect, -1
        self._path = path
        self._fps = Fraction(fps).limit_denominator(1001)
        self._stack = ExitStack()
        self._stream: VideoStream | None = None

    def __enter__(self) -> Self:
        import av

        temporary = self._stack.enter_context(atomic_path(self._path))
        try:
            self._container = self._stack.enter_context(av.open(str(temporary), "w", format="mp4"))
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def write(self, frames: np.ndarray, times: np.ndarray | None = None) -> None:
        """Append `frames` uint8 t h w 3; `times`: when each is shown, in seconds (None: one after the
        other, at the video's rate). Either all frames of a video have times or none."""
        import av

        for number, frame in enumerate(_even(frames)):
            if self._stream is None:
                self._stream = self._open_stream(frame.shape[0], frame.shape[1], times is not None)
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709")
            if times is not None:
                self._stamp = max(self._stamp + 1, round(float(times[number]) / _TICK))
                picture.pts, picture.time_base = self._stamp, _TICK
            self._container.mux(self._stream.encode(picture))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            assert self._stream is not None, "no frame was written"
            self._container.mux(self._stream.encode())

    def _open_stream(self, height: int, width: int, timed: bool) -> VideoStream:
        codec = _encoder()
        options = {"crf": "18", "preset": "fast"} if codec == "libx264" else {"q:v": "3"}
        stream = self._container.add_stream(codec, rate=self._fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.sample_aspect_ratio = self._pixel_aspect
        if timed:
            stream.time_base = context.time_base = _TICK
        # BT.709 in video range, said openly: where it is unset, players guess by the size.
        context.colorspace = context.color_primaries = context.color_trc = 1
        context.color_range = 1
        return stream


def spaced(length: int, count: int) -> list[int]:
    """At most `count` frame numbers of 0..length-1, evenly spaced, the first and the last among them."""
    return sorted({round(i) for i in np.linspace(0, length - 1, min(count, length))})


def contact_sheet(
    frames: np.ndarray,
    labels: Mapping[str, np.ndarray],
    truth: np.ndarray | None = None,
    *,
    columns: int,
    cell_px: int,
    opacity: float,
    outline: int,
    numbers: Sequence[int] | None = None,
    title: str = "",
) -> np.ndarray:
    """One picture of a video: a row of frames, one for each of `labels` (by the name of the row) with these
    over the frames, and one with the truth, if given.

    `frames` uint8 t h w 3; labels and `truth` integers t h w (background and void of a truth are not
    painted); at most `columns` of the t frames are shown, evenly spaced, each `cell_px` wide;
    `numbers`: what to call the t frames (default 0, 1, ...), for a caller that has picked them
    already with `spaced`. Returns uint8 h w 3.
    """
    shown = spaced(len(frames), columns)
    names = [str((numbers if numbers is not None else range(len(frames)))[i]) for i in shown]
    small = _resized(frames[shown], cell_px, Image.Resampling.LANCZOS)
    rows = {"frame": small}
    for name, own in labels.items():
        found = _resized(own[shown], cell_px, Image.Resampling.NEAREST)
        rows[name] = blend(small, found, opacity, outline)
    if truth is not None:
        true = _resized(truth[shown], cell_px, Image.Resampling.NEAREST)
        rows["truth"] = blend(small, true, opacity, outline, clear=(0, VOID))
    return _sheet(rows, names, title)


def _sheet(rows: dict[str, np.ndarray], names: Sequence[str], title: str) -> np.ndarray:
    """Tiles with row names at the left, frame numbers on top and a title above them."""
    count, height, width = next(iter(rows.values())).shape[:3]
    font = ImageFont.load_default(size=max(10, min(16, width // 12)))
    assert isinstance(font, ImageFont.FreeTypeFont)  # it is where a size is asked for
    line = int(font.size * 1.5)
    left = int(max(font.getlength(name) for name in rows)) + 2 * _MARGIN_PX
    top = line * (2 if title else 1)
    sheet = Image.new(
        "RGB", (left + count * (width + _MARGIN_PX), top + len(rows) * (height + _MARGIN_PX)), "white"
    )
    draw = ImageDraw.Draw(sheet)
    if title:
        draw.text((left, line / 2), title, "black", font, anchor="lm")
    for column, name in enumerate(names):
        x = left + column * (width + _MARGIN_PX)
        draw.text((x + width / 2, top - line / 2), name, (90, 90, 90), font, anchor="mm")
    for row, (name, tiles) in enumerate(rows.items()):
        y = top + row * (height + _MARGIN_PX)
        draw.text((left - _MARGIN_PX, y + height / 2), name, "black", font, anchor="rm")
        for column, tile in enumerate(tiles):
            sheet.paste(Image.fromarray(tile), (left + column * (width + _MARGIN_PX), y))
    return np.array(sheet)


def _resized(images: np.ndarray, width: int, how: Image.Resampling) -> np.ndarray:
    size = (width, max(1, round(images.shape[1] * width / images.shape[2])))
    return np.stack([np.asarray(Image.fromarray(i.astype(np.uint8)).resize(size, how)) for i in images])


def _edges(labels: np.ndarray, depth: int) -> np.ndarray:
    """Pixels of h w with another label at most `depth` rows or columns away."""
    from scipy.ndimage import maximum_filter, minimum_filter

    window = 2 * depth + 1
    return maximum_filter(labels, window, mode="nearest") != minimum_filter(labels, window, mode="nearest")


def _even(frames: np.ndarray) -> np.ndarray:
    height, width = frames.shape[1:3]
    return np.pad(frames, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@cache
def _encoder() -> Literal["libx264", "mpeg4"]:
    import av

    try:
        av.Codec("libx264", "w")
    except av.codec.codec.UnknownCodecError:
        return "mpeg4"
    return "libx264"


@cache
def _line_colours() -> np.ndarray:
    """A shade of each colour that stands out from it and from what it is blended with."""
    colours = palette().astype(np.float32)
    bright = (colours @ (0.299, 0.587, 0.114) > 110)[:, None]
    return np.where(bright, colours * 0.45, colours * 0.3 + 255 * 0.7).astype(np.uint8)
