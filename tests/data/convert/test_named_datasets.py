"""Every named dataset of conf/prepare says what its source must be, in its file and where it is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from vocl.commands import data

ROOT = Path(__file__).parents[3]
NAMES = sorted(path.stem for path in (ROOT / "conf/prepare").glob("*.yaml") if path.stem != "default")


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_source_is_told_with_what_to_do(name, tmp_path, capsys):
    source = tmp_path / "empty"
    source.mkdir()
    assert data.main(["prepare", name, str(source), str(tmp_path / "out")]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert (str(source) in message and "no such f" in message) or "holds no" in message, message
    assert any(word in message for word in ("download", "copy the files of", "it must hold")), message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_begins_with_what_its_source_is(name):
    first, second, *others = (ROOT / f"conf/prepare/{name}.yaml").read_text().splitlines()
    assert first == "# @package _global_" and second.startswith("# ")
    comment = [second, *(line for line in others if line.startswith("# "))]
    assert any("SOURCE" in line for line in comment) and max(map(len, comment)) <= 120


def test_all_families_are_there():
    for name in (
        "folders",
        "movi_a_128",
        "movi_f_256",
        "ytvis2019",
        "ytvis2021",
        "ytvis_hq",
        "ovis",
        "ytvos2018",
    ):
        assert name in NAMES
    for name in (
        "davis2016",
        "davis2017",
        "davis2017_unsupervised",
        "sav",
        "segtrack_v2",
        "fbms59",
        "jhmdb",
        "vip",
    ):
        assert name in NAMES
