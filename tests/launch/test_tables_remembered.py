"""What a table remembers of files is never said of others: what lies in the folders of runs is the truth."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from launch.cli import main
from launch.run_states import remembered
from launch.selection.plan import Spec, select
from vocl.rundir.result import Result

ROWS = "title: Rows\nrows: {a: {}, b: {train.steps: 9}}\nseeds: [0, 1, 2]\nmetrics: [video_fg_ari]\n"
TABLE = "table: {baseline: a}\n"
FILES = ("table.md", "table.csv", "table.tex", "runs.csv", "table.html")
EVAL = "e" * 10
COUNTED: list[str] = []  # paths that are opened while `is_counting`
is_counting = False


def count(event: str, found: tuple[Any, ...]) -> None:
    if is_counting and event == "open":
        COUNTED.append(str(found[0]))


sys.addaudithook(count)  # nothing takes one away


@contextmanager
def opened_below(folder: Path) -> Iterator[Counter[str]]:
    """Names of the files in `folder` that are opened in the block, or tried to; filled at its end."""
    global is_counting
    COUNTED.clear()
    found, is_counting = Counter[str](), True
    try:
        yield found
    finally:
        is_counting = False
        found.update(Path(path).name for path in COUNTED if path.startswith(f"{folder}/"))


class Scored:
    """Finished runs of an ablation of two rows, with an evaluation each."""

    def __init__(self, root: Path, words: list[str]) -> None:
        self.root, self.words, self.specs = root, words, select(words).specs
        rng = random.Random(0)
        for spec in self.specs:
            self.write(spec, [rng.uniform(0.3, 0.8) for _ in range(5)])

    def write(self, spec: Spec, scores: list[float]) -> None:
        """The records of a run that scored so on videos."""
        metrics, place = {"video_fg_ari": sum(scores) / len(scores)}, self.evaluation(spec)
        entry = {"eval_id": EVAL, "protocol": "vocl", "num_videos": len(scores), "metrics": metrics}
        entry |= {"measures": {}, "rows": f"eval/{EVAL}/rows.json"}
        place.mkdir(parents=True)
        rows = [{"video": f"v{i}", "video_fg_ari": score} for i, score in enumerate(scores)]
        (place / "rows.json").write_text(json.dumps(rows))
        settings = spec.config.eval["discovery"].content
        (place / "report.json").write_text(json.dumps(entry | {"eval": settings, "code": "c0de"}))
        result = Result(spec.id, metrics, {"discovery": entry}, seed=spec.seed, attempts=1, code="abc")
        (self.folder(spec) / "result.json").write_text(json.dumps(result.to_json()))

    def folder(self, spec: Spec) -> Path:
        return self.root / "runs" / spec.id

    def evaluation(self, spec: Spec) -> Path:
        return self.folder(spec) / "eval" / EVAL

    def told(self) -> dict[str, str]:
        """What `vocl table` writes."""
        assert main(["table", *self.words]) == 0
        return {name: (self.root / "tables" / "two" / name).read_text() for name in FILES}


@pytest.fixture
def scored(declare: Callable[..., str], tmp_path: Path) -> Scored:
    return Scored(
        tmp_path / "results", ["two", declare(ROWS + TABLE, "two"), f"runtime.root={tmp_path}/results"]
    )


@pytest.fixture
def truth(scored: Scored, monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, str]]:
    """What the table of `scored` is where nothing is remembered."""

    def told() -> dict[str, str]:
        with monkeypatch.context() as patched:
            patched.setattr(remembered, "FEW", 1000)
            return scored.told()

    return told


def rewrite(path: Path, old: str, new: str) -> None:
    """Change a file in place so that neither its size nor its date tells."""
    before, text = path.stat(), path.read_text()
    assert old in text and len(old) == len(new)
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def tagged(place: Scored, spec: Spec) -> None:
    assert main(["tag", spec.id, "odd", f"runtime.root={place.root}"]) == 0


CHANGES: dict[str, Callable[[Scored, Spec], object]] = {
    "a score of a run": lambda place, spec: rewrite(
        place.folder(spec) / "result.json", '"metrics": {"video_fg_ari": 0.', '"metrics": {"video_fg_ari": 1.'
    ),
    "the score of a video": lambda place, spec: rewrite(
        place.evaluation(spec) / "rows.json", '"video_fg_ari": 0.', '"video_fg_ari": 9.'
    ),
    "the code of an evaluation": lambda place, spec: rewrite(
        place.evaluation(spec) / "report.json", '"c0de"', '"c1de"'
    ),
    "what an evaluation was": lambda place, spec: rewrite(
        place.evaluation(spec) / "report.json", '"split": "validation"', '"split": "elsewhere!"'
    ),
    "a tag": tagged,
    "no result": lambda place, spec: (place.folder(spec) / "result.json").unlink(),
    "no run": lambda place, spec: shutil.rmtree(place.folder(spec)),
    "no rows": lambda place, spec: (place.evaluation(spec) / "rows.json").unlink(),
    "damaged rows": lambda place, spec: (place.evaluation(spec) / "rows.json").write_text('[{"video": '),
    "no evaluation": lambda place, spec: shutil.rmtree(place.evaluation(spec)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_read_again(scored, cache, truth, change: str) -> None:
    before = scored.told()
    CHANGES[change](scored, scored.specs[0])
    told = scored.told()
    assert told == truth() != before
    assert scored.told() == told


def test_what_has_come_is_read(scored, cache, truth) -> None:
    rows, tag = scored.evaluation(scored.specs[1]) / "rows.json", scored.folder(scored.specs[2])
    aside = rows.rename(rows.with_name("aside"))
    without = scored.told()
    aside.rename(rows)
    (tag / "remarks.json").write_text('{"tags": [], "note": "looks odd"}')
    told = scored.told()
    assert told == truth() != without and "looks odd" in told["table.md"]
    (tag / "remarks.json").write_text('{"tags": [], "note": "looks od')
    assert "cannot be read" in scored.told()["table.md"]


def test_attempts_that_a_finished_run_lost_are_told(scored, cache, truth) -> None:
    spec = scored.specs[0]
    path = scored.folder(spec) / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"attempts": 2, "gpu_hours": 3.0}))
    events = scored.folder(spec) / "events"
    events.mkdir()
    start = {"attempt": 1, "time": 0, "step": 0, "world": 1, "device": "cuda", "libraries": {}}
    (events / "0001-start.json").write_text(json.dumps(start))
    end = {"attempt": 1, "time": 7200, "outcome": "failed", "kind": "E", "message": "m", "wall_s": 7200.0}
    (events / "0001-failed.json").write_text(json.dumps(end | {"gpu_hours": 2.0}))
    told = scored.told()
    assert "2.0 lost" in told["table.md"] and scored.told() == told == truth()
    rewrite(events / "0001-failed.json", "7200.0", "3600.0")
    assert "1.0 lost" in scored.told()["table.md"]


def test_other_metrics_of_a_table_are_read(scored, cache, truth, declare) -> None:
    before = scored.told()
    declare(ROWS.replace("[video_fg_ari]", "[video_fg_ari, discovery/video_fg_ari]") + TABLE, "two")
    assert scored.told() == truth() != before
    declare(ROWS, "two")
    assert scored.told() == truth() != before


@pytest.mark.parametrize("damage", ["torn", "half", "odd", None])
def test_a_cache_that_is_damaged_or_gone_is_made_again(scored, cache, truth, damage: str | None) -> None:
    first = scored.told()
    whole = {kept: kept.read_text() for kept in cache.iterdir()}
    assert len(whole) == 2
    for kept, text in whole.items():
        if damage is None:
            kept.unlink()
        elif damage == "half":
            kept.write_text(text[: len(text) // 2])
        elif damage == "odd":
            head, *lines = text.splitlines()
            kept.write_text("\n".join([head, *(json.dumps([*json.loads(e)[:2], {}]) for e in lines)]))
        else:
            kept.write_text(damage)
    assert scored.told() == first == truth()
    assert {kept: sorted(kept.read_text().splitlines()) for kept in whole} == {
        kept: sorted(text.splitlines()) for kept, text in whole.items()
    }


def lie(cache: Path, old: str = '"c0de"', new: str = '"1ie5"') -> Path:
    """Have the cache say of evaluations what is not so; returns its file."""
    (kept,) = (path for path in cache.iterdir() if old in path.read_text())
    kept.write_text(kept.read_text().replace(old, new, 1))
    return kept


def test_it_is_believed_for_as_long_as_nothing_changes(scored, cache, truth) -> None:
    first = scored.told()
    lie(cache)
    assert scored.told() != first == truth()  # else the tests below could not fail


def test_a_cache_by_other_code_is_not_believed(scored, cache) -> None:
    first = scored.told()
    kept = lie(cache)
    kept.write_text(kept.read_text().replace('"code": [', '"code": [0, '))
    assert scored.told() == first


def test_a_planted_link_is_neither_believed_nor_written_through(scored, cache, tmp_path) -> None:
    first = scored.told()
    kept = lie(cache)
    planted = kept.rename(tmp_path / "theirs.json")
    lies = planted.read_text()
    kept.symlink_to(planted)
    assert scored.told() == first
    assert planted.read_text() == lies and not kept.is_symlink()


def test_nor_is_a_planted_folder(scored, cache, tmp_path) -> None:
    first = scored.told()
    cache.rename(tmp_path / "theirs")
    cache.symlink_to(tmp_path / "theirs")
    kept = lie(tmp_path / "theirs")
    lies = kept.read_text()
    assert scored.told() == first and kept.read_text() == lies


def test_a_cache_of_another_users_is_not_believed(scored, cache, monkeypatch) -> None:
    first = scored.told()
    kept = lie(cache)
    lies, user = kept.read_text(), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    assert scored.told() == first and kept.read_text() == lies


@pytest.mark.parametrize("home", ["file", "file/below", "nowhere"])
def test_without_a_place_for_it_nothing_is_remembered(
    scored, cache, truth, tmp_path: Path, monkeypatch, home: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", home if home == "nowhere" else str(tmp_path / home))
    assert scored.told() == scored.told() == truth()
    assert not (tmp_path / "nowhere").exists() and not cache.exists()


def test_a_home_that_cannot_be_written_is_read(scored, cache, truth, monkeypatch) -> None:
    first = scored.told()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(cache))

    monkeypatch.setattr(remembered, "atomic_path", refuse)
    rewrite(scored.evaluation(scored.specs[0]) / "rows.json", '"video_fg_ari": 0.', '"video_fg_ari": 9.')
    assert scored.told() == scored.told() == truth() != first


def test_two_tables_at_once_say_the_truth(scored, cache, truth) -> None:
    code = "import sys, launch.run_states.remembered as r; r.FEW = 0; from launch.cli import main; "
    command = [sys.executable, "-c", f"{code}sys.exit(main(sys.argv[1:]))", "table", *scored.words]
    tables = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [table.communicate(timeout=300)[0] for table in tables]
    assert [table.returncode for table in tables] == [0, 0]
    assert all(text.startswith(truth()["table.md"]) for text in said)
    with opened_below(scored.root / "runs") as opened:
        assert scored.told() == truth()
    assert len(list(cache.iterdir())) == 2 and opened["report.json"] == len(scored.specs)  # by `truth` alone


def test_of_runs_that_are_gone_nothing_is_kept(scored, cache) -> None:
    scored.told()
    (kept,) = cache.glob("videos-*")
    gone, other, *_ = scored.specs
    assert gone.id in kept.read_text()
    shutil.rmtree(scored.folder(gone))
    rewrite(scored.evaluation(other) / "rows.json", '"video_fg_ari": 0.', '"video_fg_ari": 9.')
    scored.told()
    assert gone.id not in kept.read_text() and other.id in kept.read_text()


def test_of_many_runs_the_results_alone_are_opened(declare, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    text = ROWS.replace("[0, 1, 2]", str(list(range(75)))) + TABLE
    place = Scored(tmp_path / "results", ["two", declare(text, "two"), f"runtime.root={tmp_path}/results"])
    with opened_below(place.root / "runs") as opened:
        first = place.told()
    assert opened == {"result.json": 150, "report.json": 150, "rows.json": 150}
    with opened_below(place.root / "runs") as opened:
        assert place.told() == first
    assert opened == {"result.json": 150}
    assert main(["tag", place.specs[0].id, "odd", f"runtime.root={place.root}"]) == 0
    with opened_below(place.root / "runs") as opened:
        assert place.told() != first
    assert opened == {"result.json": 150, "report.json": 1, "remarks.json": 1}
    with opened_below(place.root / "runs") as opened:
        place.told()
    assert opened == {"result.json": 150}
