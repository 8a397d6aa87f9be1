"""MOVi-A to -F (Greff et al., CVPR 2022), from the TFRecords in which the Kubric team publishes them.

Features are those of the builder, movi_X.py in the Kubric repository, as TFDS stores them: pictures of one
or three channels as PNG, a flow as a list of integers. A flow that is stored as bytes of 16-bit integers,
packed by zlib or not, is read as well: TFDS can write it so. Not verified against the release. What is not
kept: normals, object coordinates, poses, velocities, collisions.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vocl.data.convert.converter import Converter, Split, Unit, dev_splits
from vocl.data.convert.tfrecord import Example, records
from vocl.data.convert.trees import need, read_json, weight
from vocl.data.images import Encoded, by, opened
from vocl.data.store.record import LEVELS, Dense, Record
from vocl.data.whole import refuse_a_hole_in
from vocl.errors import UserError

FPS = 12.0
_SPLITS = ("train", "validation", "test")
_FLOWS = {"flow": "forward_flow", "backward_flow": "backward_flow"}
_NUMBERS = ("visibility", "bbox_frames/ragged_flat_values", "bbox_frames/ragged_row_lengths_0", "is_dynamic")
_REALS = ("bboxes/ragged_flat_values", "scale")  # boxes: ymin, xmin, ymax, xmax in 0..1
_CAMERA = ("focal_length", "sensor_width", "field_of_view", "positions", "quaternions")


class Movi(Converter):
    """`SOURCE/<name>-<split>.tfrecord-NNNNN-of-NNNNN`, the files of one release.

    `name`: such as movi_e; `size`: of which release, in pixels; `class_feature`: where a number that counts
    `class_names` says what an object is; `dense`: what is kept of every pixel.
    Videos are called <split>-<number>, as `train` and `test` count alike. Integers stay as they are
    beside their range; a flow's two channels change places, the release has rows first.
    """

    def __init__(
        self,
        source: Path,
        *,
        name: str,
        size: int,
        class_feature: str,
        class_names: Sequence[str],
        dense: Sequence[Literal["flow", "backward_flow", "depth"]],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.name, self.size, self.dense = name, size, [str(kind) for kind in dense]
        self.class_feature, self.class_names = class_feature, list(class_names)
        self.published = dict(published or {})
        self.files = self._files()
        self.lengths = self._lengths()

    def units(self) -> Sequence[Unit]:
        """One for each file."""
        return [Unit(file, weight([self.source / file])) for file in self.files]

    def records(self, unit: Unit) -> Iterator[Record | UserError]:
        """The videos of a file."""
        path, split, number = self.source / unit.name, self.files[unit.name], -1
        for number, data in enumerate(records(path)):
            found: Record | UserError
            try:
                found = data if isinstance(data, UserError) else self._record(path, number, data, split)
            except UserError as error:
                found = error
            yield found
        announced = self.lengths.get(unit.name, number + 1)
        for lost in range(number + 1, announced):
            yield UserError(f"{path}: record {lost} of {announced} is not in it, as dataset_info.json says")

    def splits(self, found: Mapping[str, Sequence[str]]) -> dict[str, Split]:
        """Those of the release, and `dev`."""
        every = super().splits(found)
        return every | (dev_splits(every["train"]) if "train" in every else {})

    def _files(self) -> dict[str, str]:
        """The split of each file, by its name. UserError for files that are missing."""
        place = f"gs://kubric-public/tfds/{self.name}/{self.size}x{self.size}/1.0.0"
        told = f"copy the files of {place} there, for instance with gsutil"
        pattern = re.compile(rf"{re.escape(self.name)}-(\w+)\.tfrecord-(\d{{5}})-of-(\d{{5}})")
        names = sorted(path.name for path in need(self.source, told).iterdir())
        found = [match for match in map(pattern.fullmatch, names) if match and match[1] in _SPLITS]
        if not found:
            raise UserError(f"{self.source}: holds no {self.name}-<split>.tfrecord-NNNNN-of-NNNNN; {told}")
        for split in dict.fromkeys([*self.published, *(match[1] for match in found)]):
            totals = {int(match[3]) for match in found if match[1] == split}
            numbers = {int(match[2]) for match in found if match[1] == split}
            if len(totals) > 1:
                raise UserError(
                    f"{self.source}: {split} has files of {sorted(totals)} in all; keep one release"
                )
            lacking = sorted(set(range(max(totals, default=1))) - numbers)
            if lacking and not self.partial:
                raise UserError(
                    f"{self.source}: {len(lacking)} files of {split} are missing, such as number "
                    f"{lacking[0]}; {told}, or take what there is with convert.partial=true"
                )
        return {match[0]: match[1] for match in found}

    def _lengths(self) -> dict[str, int]:
        """How many records each file has, if the release's dataset_info.json lies beside them."""
        path = self.source / "dataset_info.json"
        if not path.is_file():
            return {}
        info, found = read_json(path, ""), dict[str, int]()
        try:
            for split in info["splits"]:
                lengths = [int(length) for length in split["shardLengths"]]
                head, tail = f"{self.name}-{split['name']}.tfrecord", f"of-{len(lengths):05d}"
                found |= {f"{head}-{n:05d}-{tail}": length for n, length in enumerate(lengths)}
        except (LookupError, TypeError, ValueError) as error:
            raise UserError(
                f"{path}: is not what TFDS writes ({error}); copy it again or remove it"
            ) from None
        return found

    def _record(self, path: Path, number: int, data: bytes, split: str) -> Record:
        example = Example(data, f"{path}: record {number}")
        video = example.text("metadata/video_name")
        example.place = f"{path}: record {number} (video {video})"
        length = len(example.bytes("video"))
        if example.integers("metadata/num_frames").tolist() != [length] or not length:
            raise UserError(f"{example.place}: holds {length} frames, which is not its num_frames")
        frames = self._pictures(example, "video", length)
        for t, frame in enumerate(frames):
            self._pixels(example, "video", t, frame, ("RGB",))
        masks = [
            self._pixels(example, "segmentations", t, mask, ("L",))
            for t, mask in enumerate(self._pictures(example, "segmentations", length))
        ]
        classes = self._classes(example)
        most = max(int(mask.max()) for mask in masks)
        if classes is not None and most > len(classes):
            raise UserError(f"{example.place}: its masks name object {most}, it has {len(classes)}")
        dense = {kind: self._dense(example, kind, length) for kind in self.dense}
        return Record(
            f"{split}-{video}",
            split,
            frames,
            fps=FPS,
            masks=masks,
            dense=dense,
            classes=classes,
            more=_more(example),
        )

    def _pictures(self, example: Example, name: str, length: int) -> list[bytes]:
        found = example.bytes(name)
        if len(found) != length:
            raise UserError(f"{example.place}: {len(found)} pictures of {name} for {length} frames")
        return found

    def _pixels(self, example: Example, name: str, t: int, data: bytes, modes: tuple[str, ...]) -> np.ndarray:
        """A picture of the release's size, which is of a mode of Pillow."""
        place = f"{example.place}: {name} {t}"
        refuse_a_hole_in(data, place)
        with opened(Encoded(data, place)) as image:
            if image.mode not in modes:
                raise UserError(f"{place}: image mode {image.mode}, not {modes[0]}")
            pixels = np.array(image)
        if pixels.shape[:2] != (self.size, self.size):
            raise UserError(
                f"{place}: {by(pixels.shape)} pixels; {self.name}_{self.size} is the release of "
                f"{self.size}x{self.size}"
            )
        return pixels

    def _dense(self, example: Example, kind: str, length: int) -> Dense:
        key = _FLOWS.get(kind, kind)
        low, high = self._range(example, key)
        if kind in _FLOWS:
            return Dense(np.ascontiguousarray(self._flow(example, key, length)[..., ::-1]), low, high)
        pictures = enumerate(self._pictures(example, key, length))
        modes = ("I;16", "I;16B", "I")
        codes = [self._pixels(example, key, t, data, modes)[..., None] for t, data in pictures]
        return Dense(np.stack(codes).astype(np.uint16), low, high)

    def _range(self, example: Example, key: str) -> tuple[float, float]:
        found = example.floats(f"metadata/{key}_range")
        if len(found) != 2 or not np.isfinite(found).all() or found[0] > found[1]:
            raise UserError(f"{example.place}: {key}_range is {found.tolist()}, not its least and most")
        return float(found[0]), float(found[1])

    def _flow(self, example: Example, key: str, length: int) -> np.ndarray:
        """Codes t h w 2 uint16, rows first."""
        shape = (length, self.size, self.size, 2)
        if example.kind(key) == "bytes":
            codes = np.concatenate([_words(data, 2 * int(np.prod(shape[1:]))) for data in example.bytes(key)])
        else:
            codes = example.integers(key)
        if codes.size != np.prod(shape) or codes.min(initial=0) < 0 or codes.max(initial=0) > LEVELS:
            raise UserError(f"{example.place}: {key} has {codes.size} values, not {shape} of 16 bits")
        return codes.astype(np.uint16).reshape(shape)

    def _classes(self, example: Example) -> list[str] | None:
        if self.class_feature not in example:
            return None
        found = example.integers(self.class_feature)
        names = self.class_names
        if not all(0 <= number < len(names) for number in found):
            raise UserError(f"{example.place}: {self.class_feature} is {found} of {len(names)} classes")
        return [names[number] for number in found]


def _words(data: bytes, size: int) -> np.ndarray:
    """Integers of 16 bits, packed where there are fewer bytes than `size`."""
    if len(data) != size:
        try:
            data = zlib.decompressobj().decompress(data, size)
        except zlib.error:
            data = b""
    return np.frombuffer(data[: len(data) // 2 * 2], "<u2").astype(np.int64)


def _more(example: Example) -> dict[str, Any]:
    """What is known beside masks and values of pixels, under the builder's names."""
    found: dict[str, Any] = {"video_name": example.text("metadata/video_name")}
    if "background" in example:
        found["background"] = example.text("background")
    if "instances/asset_id" in example:
        assets = example.bytes("instances/asset_id")
        found["instances/asset_id"] = [asset.decode("utf-8", "replace") for asset in assets]
    for prefix, keys, read in (
        ("instances", _NUMBERS, example.integers),
        ("instances", _REALS, example.floats),
        ("camera", _CAMERA, example.floats),
    ):
        found |= {
            f"{prefix}/{key}": read(f"{prefix}/{key}").tolist()
            for key in keys
            if f"{prefix}/{key}" in example
        }
    return found
