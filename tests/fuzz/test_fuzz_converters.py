"""Damaged datasets: each video whole or one line in its place, whatever layout it came in."""

from __future__ import annotations

import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from alarm import ends_soon
from mutations import HANG_S, in_bytes, in_json, in_lines, numbers
from small_families import FAMILIES, LENGTH

from vocl.data.convert.converter import Converter
from vocl.data.images import Encoded, read_frame
from vocl.data.store.record import Record
from vocl.errors import UserError

COUNT = 10  # for each family


def _damage(path: Path, seed: int) -> None:
    """One file changed, gone, empty, or something else than a file."""
    rng, content = random.Random(seed), path.read_bytes()
    kind = rng.randrange(12)
    if kind < 6:
        if path.suffix == ".json" and kind < 5:
            content = in_json(content, seed)
        elif path.suffix in (".txt", ".dat") and kind < 4:
            content = in_lines(content.decode(), seed)
        else:
            content = in_bytes(content, seed)
        path.write_bytes(content)
        return
    path.unlink()
    match kind:
        case 6:
            path.write_bytes(b"")
        case 7:
            path.mkdir()
        case 8:
            os.mkfifo(path)
        case 9:
            path.symlink_to(path.name)  # leads to itself
        case 10:
            path.symlink_to("/etc/passwd")


def _read(make: Callable[[], Converter]) -> list[Record | UserError]:
    try:
        converter = pickle.loads(pickle.dumps(make()))  # as it goes to other processes
        return [found for unit in converter.units() for found in converter.records(unit)]
    except UserError as error:
        return [error]


def _check(found: Record | UserError, name: str) -> None:
    """A record that is whole, or an error of one line."""
    if isinstance(found, UserError):
        assert str(found) and "\n" not in str(found)
        return
    # Frames of VIP that no mask belongs to may be taken away unnoticed.
    assert len(found.frames) == LENGTH or (name == "vip" and found.masks is not None), found.name
    for t, frame in enumerate(found.frames):
        assert read_frame(Encoded(frame, f"frame {t}")).ndim == 3
    if found.masks is not None:
        assert len(list(found.masks)) == len(found.frames)
    if found.objects is not None:
        assert found.objects.length == len(found.frames)
        found.objects.labels("paint")
    for dense in found.dense.values():
        assert len(dense.values) == len(found.frames)
    if found.points is not None:
        assert found.points.shape == (LENGTH, 15, 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_datasets_are_whole_or_one_line(family: str, tmp_path: Path) -> None:
    whole, root, (build, _) = tmp_path / "whole", tmp_path / "set", FAMILIES[family]
    for folder in (whole, root):
        folder.mkdir()
        make = build(folder)
    expected = _read(make)
    assert all(isinstance(found, Record) for found in expected), expected
    refused = 0
    for seed in numbers(COUNT):
        shutil.rmtree(root)
        shutil.copytree(whole, root)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        target = random.Random(f"{family} {seed}").choice(files)
        _damage(target, seed)
        told = f"{family}, seed {seed}: {target.relative_to(root)}"
        with ends_soon(told, HANG_S):
            found = _read(make)
        for one in found:
            _check(one, family)
        errors = sum(isinstance(one, UserError) for one in found)
        assert errors or len(found) == len(expected), told
        refused += bool(errors)
    assert refused
