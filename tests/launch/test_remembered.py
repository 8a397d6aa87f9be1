"""What a board remembers of logs is never said of others: what lies in the folders of runs is the truth."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from run_records import BAD, DONE, LATE, RUNNING, Sweep, beat, reports, status

from launch.run_states import recent, remembered

SPIKE = [0.1] * 30 + [7.0] * 2


@pytest.fixture
def flagged(recorded: Sweep) -> Sweep:
    """All states; of a done, a failed, an interrupted and a running run the loss has a spike."""
    for run in (DONE, BAD, LATE, RUNNING):
        reports(recorded.folder(run), SPIKE)
        (recorded.folder(run) / "config.yaml").write_text("model:\n  num_slots: 7\n")
    beat(recorded.folder(LATE), 50, age_s=3600)  # the reports came with a sign of life
    return recorded


def warned(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """What the board warns of, by run."""
    assert status(sweep, "trio") == 0
    lines = [line.split(maxsplit=2) for line in capsys.readouterr().out.splitlines()]
    return {line[1]: line[2] for line in lines if line and line[0] == "warning:"}


def logs_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose logs are opened from now on, filled as it happens."""
    read: list[str] = []
    open_regular = recent.open_regular

    def opened(path: Path):
        read.append(Path(path).parent.name)
        return open_regular(path)

    monkeypatch.setattr(recent, "open_regular", opened)
    return read


def test_a_log_that_has_not_changed_is_not_read_again(flagged, cache, capsys, monkeypatch) -> None:
    first, read = warned(flagged, capsys), logs_read(monkeypatch)
    assert set(first) == {DONE, BAD, LATE, RUNNING} and all("loss spike" in each for each in first.values())
    assert warned(flagged, capsys) == first
    assert set(read) == {RUNNING}


@pytest.mark.parametrize("run", [DONE, BAD, LATE, RUNNING])
def test_a_log_that_has_changed_is(flagged, cache, capsys, run: str) -> None:
    warned(flagged, capsys)
    reports(flagged.folder(run), [0.1] * 32)
    assert run not in warned(flagged, capsys)
    reports(flagged.folder(run), [*SPIKE[:-1], 0.1])
    assert "and came back" in warned(flagged, capsys)[run]
    (flagged.folder(run) / "metrics.jsonl").unlink()
    assert run not in warned(flagged, capsys)


def test_another_number_of_slots_is_told(flagged, cache, capsys) -> None:
    reports(flagged.folder(DONE), [0.1] * 30, slots_used=1.0)
    assert "1.0 of 7 slots" in warned(flagged, capsys)[DONE]
    (flagged.folder(DONE) / "config.yaml").write_text("model:\n  num_slots: 11\n")
    assert "1.0 of 11 slots" in warned(flagged, capsys)[DONE]


@pytest.mark.parametrize("damage", ["", "torn", "{}", "[]", '{"code": 1, "known": 3}', None])
def test_a_cache_that_is_damaged_or_gone_is_made_again(flagged, cache, capsys, damage: str | None) -> None:
    first = warned(flagged, capsys)
    (kept,) = cache.iterdir()
    whole = kept.read_text()
    if damage is None:
        kept.unlink()
    else:
        kept.write_text(damage)
    assert warned(flagged, capsys) == first
    assert kept.read_text() == whole


def test_a_cache_by_other_code_is_not_believed(flagged, cache, capsys) -> None:
    first = warned(flagged, capsys)
    (kept,) = cache.iterdir()
    kept.write_text(kept.read_text().replace('"code": [', '"code": [0, ').replace("loss spike", "a lie"))
    assert warned(flagged, capsys) == first


def test_without_a_place_for_it_nothing_is_remembered(flagged, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(remembered, "FEW", 0)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "file"))
    assert warned(flagged, capsys) == warned(flagged, capsys) != {}
