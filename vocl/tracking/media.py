"""The pictures of a run or a table that a tracker shows: files of a folder and the index that names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vocl.files import holds, json_or_none, write_json
from vocl.rundir.run_dir import RunDir

INDEX = "index.json"
KINDS = {"key": str, "file": str, "caption": str}
VIDEO, PAGE = ".mp4", ".html"


@dataclass(frozen=True)
class Picture:
    """A picture, a video or a page, by the `key` that a tracker shows it under."""

    key: str
    path: Path
    caption: str

    @property
    def is_video(self) -> bool:
        """Whether it moves."""
        return self.path.suffix == VIDEO

    @property
    def is_page(self) -> bool:
        """Whether it is HTML."""
        return self.path.suffix == PAGE


def write(folder: Path, pictures: Sequence[Picture]) -> None:
    """Say that `pictures`, files of `folder`, are all there: only then a tracker shows them."""
    entries = [{"key": p.key, "file": p.path.name, "caption": p.caption} for p in pictures]
    write_json(folder / INDEX, {"pictures": entries})


def read(folder: Path) -> list[Picture]:
    """The pictures in `folder`; empty where they are not complete.

    A file that is a link is left out: in a shared folder it may lead to what nobody meant to upload."""
    if folder.is_symlink():
        return []
    entries = (json_or_none(folder / INDEX) or {}).get("pictures")
    found = [entry for entry in entries if holds(entry, KINDS)] if isinstance(entries, list) else []
    pictures = [Picture(e["key"], folder / e["file"], e["caption"]) for e in found if _is_name(e["file"])]
    return [p for p in pictures if p.path.is_file() and not p.path.is_symlink()]


def of_probe(run: RunDir) -> list[Picture]:
    """The picture of the newest probe, if one was drawn; its title says of which step it is."""
    path = run.probe_picture
    is_there = path.is_file() and not path.is_symlink() and not path.parent.is_symlink()
    return [Picture("probe/picture", path, "of the newest probe")] if is_there else []


def _is_name(text: str) -> bool:
    return Path(text).name == text
