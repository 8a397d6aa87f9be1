"""Small datasets in their official layouts, for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco

SIZE = (24, 36)


def picture(number: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Smooth, other for each number."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    red = (rows * 9 + 40 * number) % 256
    return Image.fromarray(
        np.stack([red, columns * 6 % 256, (rows + columns) * 3 % 256], -1).astype(np.uint8)
    )


def save_frames(
    folder: Path, numbers: Sequence[int], name: str = "{:05d}.jpg", size: tuple[int, int] = SIZE
) -> None:
    """A folder of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        picture(number, size).save(folder / name.format(number))


def save_labels(path: Path, labels: np.ndarray) -> None:
    """A label map as an indexed PNG, as DAVIS and YouTube-VOS have them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8), mode="P")
    image.putpalette([v for i in range(256) for v in (i, 255 - i, 7 * i % 256)])
    image.save(path)


def box(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A mask that is true in a box."""
    out = np.zeros(size, bool)
    out[top:bottom, left:right] = True
    return out


def code(mask: np.ndarray | None, text: bool = True) -> Any:
    """A mask's run-length code as JSON has it: text, or a list of runs."""
    if mask is None:
        return None
    size = list(mask.shape)
    if text:
        return {
            "size": size,
            "counts": coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode(),
        }
    flat = np.concatenate([[0], mask.ravel(order="F").astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(flat))
    runs = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    return {"size": size, "counts": runs}


def ytvis(videos: int, size: tuple[int, int] = SIZE, length: int = 3) -> dict[str, Any]:
    """What a JSON of YouTube-VIS holds: each video has two objects that overlap; the second comes later."""
    one = [box(2, 3, 12, 14, size)] * length
    two = [None, *[box(8, 9, 20, 30, size)] * (length - 1)]
    listed = [
        {
            "id": 10 + v,
            "height": size[0],
            "width": size[1],
            "length": length,
            "file_names": [f"v{v:04d}/{5 * t:05d}.jpg" for t in range(length)],
        }
        for v in range(videos)
    ]
    annotations = []
    for v in range(videos):
        for number, masks in enumerate((one, two)):
            annotations.append(
                {
                    "id": 2 * v + number + 1,
                    "video_id": 10 + v,
                    "category_id": 3 + number,
                    "iscrowd": 0,
                    "height": size[0],
                    "width": size[1],
                    "length": length,
                    "segmentations": [code(mask, text=number == 0) for mask in masks],
                    "bboxes": [None if mask is None else [0, 0, 1, 1] for mask in masks],
                    "areas": [None if mask is None else int(mask.sum()) for mask in masks],
                }
            )
    categories = [{"id": 3, "name": "fox", "supercategory": "object"}, {"id": 4, "name": "boat"}]
    return {
        "info": {},
        "licenses": [],
        "videos": listed,
        "annotations": annotations,
        "categories": categories,
    }


def write_ytvis(root: Path, content: dict[str, Any], annotations: str, frames: str) -> None:
    """A JSON, and the frames that it names."""
    path = root / annotations
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for video in content["videos"]:
        for t, name in enumerate(video["file_names"]):
            file = root / frames / name
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(t + video["id"], (video["height"], video["width"])).save(file)
