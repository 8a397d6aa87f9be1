"""debug=overfit and debug=profile: an experiment as it is, but for what is looked at."""

from __future__ import annotations

import gzip
import json

import pytest
from running import final, losses, run_folder, same, tiny, told

from vocl import run
from vocl.config.compose import composed

PROFILED = ("runtime.profile_from=4", "runtime.profile_steps=3")


@pytest.mark.slow
def test_one_batch_again_and_again_is_learnt_where_many_are_not(tmp_path):
    overrides = "debug=overfit", "train.steps=300", "optim.lr=0.01", "optim.schedule.warmup_steps=10"
    whole = tiny(tmp_path, *overrides, "dataset.first_batches=null")
    one = tiny(tmp_path, *overrides)
    assert run.run(whole) == run.run(one) == 0
    first, *_, last = losses(one)
    assert first == losses(whole)[0]
    assert last < 0.3 * first and last < 0.8 * losses(whole)[-1]


def test_that_it_trains_on_one_batch_makes_it_another_run():
    plain, none, one = (
        composed(overrides).run_id
        for overrides in ([], ["dataset.first_batches=null"], ["dataset.first_batches=1"])
    )
    assert plain == none != one


@pytest.mark.slow
def test_a_profile_has_the_parts_of_its_steps_and_changes_nothing(tmp_path):
    plain, config = tiny(tmp_path / "plain"), tiny(tmp_path / "profiled", *PROFILED)
    assert run.run(plain) == run.run(config) == 0
    folder = run_folder(config)
    trace = json.loads(gzip.decompress((folder / "profile" / "trace.json.gz").read_bytes()))
    spans = [event["name"] for event in trace["traceEvents"] if event.get("cat") == "user_annotation"]
    for part in ("clip", "forward", "backward", "update"):
        assert spans.count(part) == 3, spans
    assert "forward" in (folder / "profile" / "table.txt").read_text()
    assert told((folder / "log.txt").read_text())[0].startswith("profile up to step 7: ")
    assert not (run_folder(plain) / "profile").exists()
    same(final(config), final(plain))


def test_a_profile_that_would_begin_after_the_last_step_is_missed_aloud(tmp_path):
    config = tiny(tmp_path, "runtime.profile_from=12", "runtime.profile_steps=1")
    assert run.run(config) == 0
    assert "no profile" in told((run_folder(config) / "log.txt").read_text())[0]
    assert not (run_folder(config) / "profile").exists()
