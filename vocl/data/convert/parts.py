"""People: joints of JHMDB (Jhuang et al., ICCV 2013) and parts of VIP (Zhou et al., ACM MM 2018).

Neither layout is verified against the release: both are as published loaders read them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial as bound
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Le

from vocl.data.convert.converter import refuse_other_counts
from vocl.data.convert.trees import (
    VideoByVideo,
    by_stem,
    encoded,
    files_in,
    names_in,
    need,
    read_list,
    refuse_absent,
    refuse_special,
)
from vocl.data.images import FRAME_SUFFIXES, image_size
from vocl.data.sources.files import read_mask
from vocl.data.store.record import Record
from vocl.errors import UserError, brief
from vocl.interface import VOID

_JHMDB = "download JHMDB (Rename_Images, joint_positions, splits) from http://jhmdb.is.tue.mpg.de/challenge/JHMDB/datasets"
_VIP = "download VIP_Fine from https://sysu-hcp.net/lip/overview.php"
_TRAIN, _TEST = "1", "2"  # what a list says of a clip
_JOINTS, _PARTS = 15, 19
_FAR = 2**15  # pixels


class Jhmdb(VideoByVideo):
    """`SOURCE/{Rename_Images,joint_positions}/<action>/<clip>`, `SOURCE/splits/<action>_test_split<N>.txt`.

    Fifteen joints per frame, in the dataset's order; a joint counts as visible where it is within the
    picture. `split`: the number of the lists that say which clips are for training.
    """

    def __init__(
        self,
        source: Path,
        *,
        split: Annotated[int, Ge(1), Le(3)],
        published: Mapping[str, int] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.published = dict(published or {})
        folders = ("Rename_Images", "joint_positions", "splits")
        self.frames, self.joints, lists = (need(source / name, _JHMDB) for name in folders)
        self.videos: dict[str, tuple[str, str]] = {}
        for action in names_in(self.frames):
            self._add(action, lists / f"{action}_test_split{split}.txt")
        counts = [found for found, _ in self.videos.values()]
        refuse_other_counts(self, {name: counts.count(name) for name in counts}, skipped=0)
        if not self.videos:
            raise UserError(f"{self.frames}: holds no clip of the lists in {lists}")

    def frames_of(self, name: str) -> Sequence[Path]:
        """By name alone."""
        return files_in(self.frames / self.videos[name][1] / name, FRAME_SUFFIXES)

    def record(self, name: str) -> Record:
        """One clip."""
        split, action = self.videos[name]
        files = self.frames_of(name)
        if not files:
            raise UserError(f"{self.frames / action / name}: no frames")
        points = _points(self.joints / action / name / "joint_positions.mat", len(files))
        height, width = image_size(files[0])
        within = np.logical_and(points >= -0.5, points < (width - 0.5, height - 0.5)).all(-1, keepdims=True)
        found = np.concatenate([points, within], -1).astype(np.float32)
        return Record(name, split, encoded(files), points=found, more={"action": action})

    def _add(self, action: str, origin: Path) -> None:
        """The clips of an action, as its list says."""
        if not origin.is_file():
            if self.partial:
                return
            raise UserError(f"{origin}: no such file; {_JHMDB}")
        said = [line.split() for line in read_list(origin)]
        wrong = next((words for words in said if len(words) != 2 or words[1] not in (_TRAIN, _TEST)), None)
        if wrong is not None:
            raise UserError(f"{origin}: {brief(' '.join(wrong))!r} is not <clip>.avi and 1 or 2")
        listed = {words[0].removesuffix(".avi"): words[1] for words in said}
        present = names_in(self.frames / action)
        if not self.partial:
            refuse_absent(listed, present, origin, self.frames / action)
        for name in present:
            if name in self.videos:
                raise UserError(f"{self.frames}: holds two clips {name}")
            if name in listed:
                self.videos[name] = ("train" if listed[name] == _TRAIN else "test", action)


class Vip(VideoByVideo):
    """VIP_Fine: `SOURCE/{Images,Annotations/Category_ids}/<video>`, `SOURCE/lists/{train,val}_videos.txt`.

    Labels are 19 parts of people, the same in every video; 0 is background, 255 void. Frames without a
    mask keep None.
    """

    videos: dict[str, str]

    def __init__(self, source: Path, *, published: Mapping[str, int] | None, partial: bool) -> None:
        super().__init__(source, partial=partial)
        self.published = dict(published or {})
        self.frames, self.masks = (need(source / n, _VIP) for n in ("Images", "Annotations/Category_ids"))
        present, self.videos = names_in(self.frames), {}
        for split in ("train", "val"):
            origin = source / "lists" / f"{split}_videos.txt"
            if not origin.is_file():
                if partial and split == "train":
                    continue
                raise UserError(f"{origin}: no such file; {_VIP}")
            listed = read_list(origin)
            if not partial:
                refuse_absent(listed, present, origin, self.frames)
            self.videos |= {name: split for name in listed if name in set(present)}
        counts = list(self.videos.values())
        refuse_other_counts(self, {name: counts.count(name) for name in counts}, skipped=0)
        if not self.videos:
            raise UserError(f"{self.frames}: holds no video of the lists in {source / 'lists'}")

    def frames_of(self, name: str) -> Sequence[Path]:
        """By name alone."""
        return files_in(self.frames / name, FRAME_SUFFIXES)

    def record(self, name: str) -> Record:
        """One video."""
        files, folder = self.frames_of(name), self.masks / name
        if not files:
            raise UserError(f"{self.frames / name}: no frames")
        masks = by_stem(files, files_in(folder, [".png"]), bound(read_mask, binary=False))
        for file, mask in zip(files, masks, strict=True):
            if mask is not None and mask[mask != VOID].max(initial=0) > _PARTS:
                raise UserError(
                    f"{folder / file.stem}.png: has a label above {_PARTS}, there are so many parts"
                )
        if all(mask is None for mask in masks):
            raise UserError(f"{folder}: holds no mask of any frame of {self.frames / name}")
        return Record(name, self.videos[name], encoded(files), masks=masks)


def _points(path: Path, length: int) -> np.ndarray:
    """x and y of each joint, t 15 2, from the centre of the first pixel; the file counts from one."""
    from scipy.io import loadmat

    refuse_special(path)
    try:
        found = loadmat(str(path), variable_names=["pos_img"])
    except Exception:  # scipy raises nearly everything at a damaged file
        raise UserError(f"{path}: is no MATLAB file, or a damaged one") from None
    points = found.get("pos_img")
    if not isinstance(points, np.ndarray) or points.dtype.kind not in "fiu":
        raise UserError(f"{path}: has no array pos_img of numbers")
    if points.shape != (2, _JOINTS, length) or not (np.abs(points) < _FAR).all():
        shape = "x".join(map(str, points.shape))
        raise UserError(f"{path}: pos_img is {shape}, not 2x{_JOINTS}x{length} pixels for {length} frames")
    return points.transpose(2, 1, 0).astype(np.float64) - 1
