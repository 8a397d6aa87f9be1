"""`vocl tag`, and runs found by config, state, score and tag, in `vocl ls` and `vocl.runs`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

import launch.run_states.remembered as remembered
import launch.selection.known_configs as known_configs
import vocl
from launch.cli import main
from launch.selection.plan import select
from vocl.rundir.results_root import ResultsRoot


@pytest.fixture
def root(
    declare: Callable[..., str], finish: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> ResultsRoot:
    """Six runs with configs: the first four done, with scores 0.0, 0.2, 0.4, 0.6."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = ResultsRoot(tmp_path / "results")
    for number, spec in enumerate(select(["trio", declare()]).runs):
        found.run(spec.id).write_config(spec.content)
        if number < 4:
            finish(spec, found.path, video_fg_ari=number / 5)
    return found


def listed(root: ResultsRoot, capsys: pytest.CaptureFixture[str], *words: str) -> int:
    capsys.readouterr()
    assert main(["ls", *words, f"runtime.root={root}"]) == 0
    return int(capsys.readouterr().out.splitlines()[-1].split()[0])


def test_runs_are_found_by_score_state_config_and_tag(
    root: ResultsRoot, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = root.run_ids()
    place = f"runtime.root={root}"
    assert listed(root, capsys) == 6
    assert listed(root, capsys, "video_fg_ari>0.3") == 2
    assert listed(root, capsys, "video_fg_ari>=0.2", "video_fg_ari<0.5", "state=done") == 2
    assert listed(root, capsys, "discovery/video_fg_ari<=0") == 1
    assert listed(root, capsys, "state=absent") == 2
    assert listed(root, capsys, "seed=0", "state=done") == 2
    assert main(["tag", ids[0], ids[1][:9], "base", place]) == 0
    assert main(["tag", ids[1], "v2", place]) == 0
    assert main(["tag", ids[1], "--note", "the one  of the talk", place]) == 0
    assert f"{ids[1]}: base v2 (the one of the talk)" in capsys.readouterr().out
    assert listed(root, capsys, "tag=base") == 2
    assert listed(root, capsys, "tag=base", "tag=v*") == 1
    frame = vocl.runs("tag=base", root=root.path)
    assert sorted(frame.index) == sorted(ids[:2]) and frame.loc[ids[1], "note"] == "the one of the talk"
    assert len(vocl.runs("video_fg_ari>0.3", root=root.path)) == 2
    assert main(["tag", ids[0], ids[1], "base", "--remove", place]) == 0
    assert listed(root, capsys, "tag=base") == 0
    assert root.run(ids[1]).remarks().tags == ("v2",)


def test_a_tag_changes_neither_the_config_nor_the_state_nor_the_date(root: ResultsRoot, capsys) -> None:
    run = root.run(root.run_ids()[0])
    before = run.config().run_id, run.is_done(), run.config_path.read_bytes()
    assert main(["tag", run.id, "kept", f"runtime.root={root}"]) == 0
    assert (run.config().run_id, run.is_done(), run.config_path.read_bytes()) == before
    run.events.mkdir(exist_ok=True)
    os.utime(run.events, (1e9, 1e9))
    capsys.readouterr()
    assert main(["ls", run.id, f"runtime.root={root}"]) == 0
    assert " 2001-09-0" in capsys.readouterr().out  # when its last attempt ended
    (run.path / "remarks.json").write_text("torn")
    assert run.remarks().note == "remarks.json cannot be read"
    assert run.remarks().tags == ()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tag", "{run}"], "usage: vocl tag"),
        (["tag", "{run}", "a b"], "not a tag"),
        (["tag", "nothing", "base"], "no run"),
        (["tag"], "usage: vocl tag"),
        (["ls", "video_fg_ari>much"], "expected a number"),
        (["ls", "state=finished"], "choose from absent"),
        (["ls", "model.slots=7"], "no run's config has this key"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], told: str, root: ResultsRoot, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [word.format(run=root.run_ids()[0]) for word in words]
    assert main([*said, f"runtime.root={root}"]) == 2
    error = capsys.readouterr().err
    assert told in error and error.count("\n") == 1


def test_configs_are_kept_until_they_change(
    root: ResultsRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "FEW", 0)
    ids = root.run_ids()
    plain = {run: root.run(run).config_unchecked() for run in ids}
    assert known_configs.configs(root, ids) == plain
    (cache,) = (tmp_path / "cache" / "vocl").iterdir()
    written = cache.stat().st_mtime_ns
    assert known_configs.configs(root, ids) == plain and cache.stat().st_mtime_ns == written
    changed = root.run(ids[0])
    changed.write_config(plain[ids[0]] | {"seed": 77})
    os.utime(changed.config_path, (1, 1))
    assert known_configs.configs(root, ids)[ids[0]]["seed"] == 77
    for damage in ("torn", "{}", '{"code": 1, "known": 3}'):
        cache.write_text(damage)
        assert known_configs.configs(root, ids)[ids[1]] == plain[ids[1]]
