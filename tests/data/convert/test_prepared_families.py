"""`vocl data prepare` with the named config of each family: all comes back from the store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_families import FAMILIES

from vocl.commands import data
from vocl.data.images import Encoded, read_frame
from vocl.data.store.record import Record
from vocl.data.store.source import Stored


@pytest.mark.parametrize("family", FAMILIES)
def test_a_store_gives_back_what_its_dataset_has(family: str, tmp_path: Path, capsys) -> None:
    source, (build, more) = tmp_path / "source", FAMILIES[family]
    source.mkdir()
    converter = build(source)()
    command = [
        "prepare",
        family,
        str(source),
        str(tmp_path / "out"),
        "convert.partial=true",
        "workers=1",
        *more,
    ]
    assert data.main(command) == 0, capsys.readouterr().err
    assert data.main(["verify", str(tmp_path / "out")]) == 0
    records = [found for unit in converter.units() for found in converter.records(unit)]
    for record in records:
        assert isinstance(record, Record)
        stored = Stored(record.split, tmp_path, name="out", train="train")
        video = next(stored[i] for i in range(len(stored)) if stored[i].name == record.name)
        assert video.length == len(record.frames)
        if family != "ytvis2019":  # its frames are resized by the converter of this test
            for t in range(video.length):
                expected = read_frame(Encoded(record.frames[t], "frame"))
                assert np.array_equal(video.frames([t])[0], expected)
        truth = stored.truth(record.name)
        assert (truth is None) == (record.masks is None and record.objects is None and record.points is None)
