"""Plain folders: videos of any origin as frames and masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge

from vocl.data.convert.converter import LeftOut
from vocl.data.convert.trees import VideoByVideo, distinct, encoded, names_in, need, refuse_special
from vocl.data.images import frame_files
from vocl.data.sources.files import FolderVideo
from vocl.data.store.record import Record
from vocl.errors import UserError

_LAYOUT = "it must hold <split>/<video>/frames/*.jpg or *.png, with masks/*.png beside frames for a truth"


class Folders(VideoByVideo):
    """`SOURCE/<split>/<video>/{frames,masks}`, as the source `frame_folders` reads them.

    `binary`: every value of a mask above 0 is the one object. `unmatched`: a video that has masks, but
    not one for each frame, is an error (refuse) or left out (skip). `min_frames`: shorter videos are
    left out; None: none is. A name that two splits have gets the split's before it.
    """

    def __init__(
        self,
        source: Path,
        *,
        binary: bool,
        unmatched: Literal["refuse", "skip"],
        min_frames: Annotated[int, Ge(1)] | None,
        partial: bool,
    ) -> None:
        super().__init__(source, partial=partial)
        self.binary, self.unmatched, self.min_frames = binary, unmatched, min_frames
        splits = names_in(need(source, _LAYOUT))
        self.videos = distinct((split, video) for split in splits for video in names_in(source / split))
        if not self.videos:
            raise UserError(f"{source}: holds no video; {_LAYOUT}")

    def frames_of(self, name: str) -> Sequence[Path]:
        """By name alone."""
        folder = self.source.joinpath(*self.videos[name], "frames")
        return frame_files(folder) if folder.is_dir() else []

    def record(self, name: str) -> Record:
        """One video."""
        split, folder = self.videos[name][0], self.source.joinpath(*self.videos[name])
        there = (folder / "masks").is_dir()
        video = FolderVideo(name, folder / "frames", folder / "masks" if there else None, self.binary)
        if self.min_frames is not None and video.length < self.min_frames:
            raise LeftOut(f"{folder}: {video.length} frames, fewer than convert.min_frames={self.min_frames}")
        try:
            masks = video.mask_paths
        except UserError as error:
            if self.unmatched == "skip":
                raise LeftOut(f"{error}; left out by convert.unmatched=skip") from None
            raise UserError(f"{error}; leave such videos out with convert.unmatched=skip") from None
        for path in masks or ():
            refuse_special(path)
        frames = encoded(video.frame_paths)
        return Record(name, split, frames, masks=None if masks is None else list(video.labels()))
