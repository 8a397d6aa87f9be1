"""Damaged stores: what was written, or one line that names a file of it; never less of it in silence."""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from mutations import HANG_S, in_bytes, in_json, numbers
from PIL import Image

from vocl.data.convert.converter import Converter, Unit
from vocl.data.sources.files import FrameFolders
from vocl.data.store.prepare import Settings, prepare
from vocl.data.store.record import Dense, Record
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.stop import StopFlag

COUNT, LENGTH, SIZE = 40, 3, (8, 9)
FILES = ("manifest.json", "00000.parquet", "00000.tar", "splits/train.txt")


class Two(Converter):
    """A video with label maps and a flow, and one with objects."""

    def units(self) -> list[Unit]:
        return [Unit("both", 1)]

    def records(self, unit: Unit):
        frames = []
        for t in range(LENGTH):
            buffer = io.BytesIO()
            Image.fromarray(np.full((*SIZE, 3), 40 * t, np.uint8)).save(buffer, "PNG")
            frames.append(buffer.getvalue())
        labels = np.zeros((LENGTH, *SIZE), np.uint8)
        labels[:, 2:5, 2:5] = 1
        flow = np.arange(LENGTH * 8 * 9 * 2, dtype=np.uint16).reshape(LENGTH, *SIZE, 2)
        yield Record("maps", "train", frames, masks=list(labels), dense={"flow": Dense(flow, -1.0, 1.0)})
        yield Record("objects", "train", frames, objects=Truth.from_labels(labels))


def contents(data_root: Path) -> list[object]:
    """Everything that a training and an evaluation read of it."""
    source = FrameFolders("train", data_root, name="store")
    source.check()
    found: list[object] = [sorted(source.annotated)]
    for number in range(len(source)):
        video, indices = source[number], range(source[number].length)
        read = video.annotations(["masks"], indices)["masks"].tobytes(), source.truth(video.name)
        flow = video.annotations(["flow"], indices)["flow"].tobytes() if number == 0 else b""
        found.append((video.name, video.length, video.size, video.frames(indices).tobytes(), *read, flow))
    return found


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_store_is_whole_or_one_line(name: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    how = Settings(workers=1, shard_mb=1, skip_damaged=False)
    prepare(Two(tmp_path, partial=True), {}, "store", store, how, StopFlag())
    whole, expected = (store / name).read_bytes(), contents(tmp_path)
    log = tmp_path / "log"
    pid = os.fork()
    if pid == 0:  # a reader of another library may take its process down
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        with log.open("w", buffering=1) as lines:
            for seed in numbers(COUNT):
                text = name.endswith(".json") and seed % 2
                (store / name).write_bytes((in_json if text else in_bytes)(whole, seed))
                signal.alarm(HANG_S)
                print(f"{seed}: {_outcome(tmp_path, expected)}", file=lines)
                signal.alarm(0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, log.read_text()
    said = log.read_text().splitlines()
    assert len(said) == len(numbers(COUNT)), said[-3:]
    assert [line for line in said if not line.endswith((": whole", ": told"))] == []
    assert any(line.endswith("told") for line in said)


def _outcome(data_root: Path, expected: list[object]) -> str:
    try:
        return "whole" if contents(data_root) == expected else "other content"
    except UserError as error:
        one_line = "\n" not in str(error) and str(error).startswith(str(data_root / "store"))
        return "told" if one_line else f"an odd line: {error!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error} {sys.exc_info()[2] and error.__traceback__}"
