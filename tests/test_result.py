"""result.json as a typed record: what another version wrote in it is neither lost nor believed."""

from dataclasses import replace
from pathlib import Path

import pytest

from vocl.files import write_json
from vocl.rundir.attempts import Attempts
from vocl.rundir.run_dir import RunDir

CONTENT = {"schema": 1, "run_id": "0123456789", "metrics": {"a": 0.5}, "evals": {}}


def test_what_another_version_wrote_beside_it_stays(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_json(run.result_path, CONTENT | {"energy_kwh": 3})
    before = run.result()
    run.write_result(before.with_evals({}, {"probe": "why"}, []))
    after = run.result()
    assert after.others == {"energy_kwh": 3}
    assert replace(after, failed={}, metrics=before.metrics) == before and after.failed == {"probe": "why"}


@pytest.mark.parametrize("key", ["schema", "cell_id", "attempts", "device"])
def test_a_fact_of_another_kind_is_as_if_it_lacked(tmp_path: Path, key: str) -> None:
    run, bare = RunDir(tmp_path / "one"), RunDir(tmp_path / "bare")
    write_json(run.result_path, CONTENT | {key: [1]})
    write_json(bare.result_path, CONTENT)
    assert run.is_done() and run.result() == bare.result()


def test_an_attempt_whose_start_is_damaged_counts_its_time(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    start = {"attempt": 1, "time": 0.0, "step": 0, "world": 2, "device": "cuda"}
    end = {"time": 9.0, "outcome": "stopped", "wall_s": 1800.0}
    for number, content in ((1, start), (2, "{")):
        write_json(run.events / f"{number:04d}-start.json", content)
        write_json(run.events / f"{number:04d}-stopped.json", end)
    assert Attempts(run).spent() == (3600.0, 1.0)
