"""What is queued again is the run as it was saved, on a cluster that may be another."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from launch.selection.plan import Spec, select
from launch.selection.submitted import PlacedRun
from launch.submission.job_config import freeze
from launch.submission.resubmit import asked_of_cluster, spec_of
from vocl.config.cluster import LocalCluster, SlurmCluster
from vocl.config.compose import compose
from vocl.errors import UserError
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import RunDir


@pytest.fixture
def frozen(tmp_path: Path) -> Spec:
    """A run whose config has been saved for its job."""
    (spec,) = select(
        ["seed=0", "debug=tiny", "cluster=slurm", "cluster.account=lab", f"runtime.root={tmp_path}"]
    ).specs
    freeze(ResultsRoot(tmp_path).run(spec.id), spec)
    return spec


def entry(spec: Spec) -> PlacedRun:
    return PlacedRun("", "", 0, spec.id)


def test_a_job_reads_the_run_and_that_it_trains_in_its_own_process(frozen: Spec, tmp_path: Path) -> None:
    read = ResultsRoot(tmp_path).run(frozen.id).config()
    assert read.run_id == frozen.id and not read.runtime.progress
    assert isinstance(read.cluster, LocalCluster) and read.cluster.kind == "here"
    assert "lab\n" not in ResultsRoot(tmp_path).run(frozen.id).config_path.read_text()


def test_a_config_of_an_earlier_version_is_frozen_again_in_the_keys_of_then(
    frozen: Spec, tmp_path: Path
) -> None:
    """Its job runs the code of then, which knows no others."""
    path = ResultsRoot(tmp_path).run(frozen.id).config_path
    saved = yaml.safe_load(path.read_text())
    del saved["dataset"]["views"], saved["backbone"]["resample"]
    saved["cluster"] = compose(["cluster=slurm"])["cluster"] | {"kind": "here", "slots": 1}  # of then
    path.write_text(yaml.safe_dump(saved, sort_keys=False))
    spec = spec_of(ResultsRoot(tmp_path), entry(frozen), None)
    assert spec.config.run_id == frozen.id and spec.config.dataset.views == 0
    freeze(RunDir(path.parent), spec)
    again = yaml.safe_load(path.read_text())
    hashed = ("model", "backbone", "dataset", "loss", "curriculum", "optim", "train", "eval")
    assert {key: again[key] for key in hashed} == {key: saved[key] for key in hashed}
    assert RunDir(path.parent).config().run_id == frozen.id


def test_a_key_of_slurm_is_a_mistake_where_the_run_does_not_go_there(frozen: Spec, tmp_path: Path) -> None:
    changes = asked_of_cluster(["cluster.slots=3"])
    here = spec_of(ResultsRoot(tmp_path), entry(frozen), None, changes).config.cluster
    assert isinstance(here, LocalCluster) and here.slots == 3
    changes = asked_of_cluster(["cluster.time_min=7"])
    with pytest.raises(
        UserError, match=r"^cluster\.time_min: unknown key, choose from kind, slots, wait \("
    ) as said:
        spec_of(ResultsRoot(tmp_path), entry(frozen), None, changes)
    assert "\n" not in str(said.value)
    changes = asked_of_cluster(["cluster=slurm", "cluster.time_min=7", "+cluster.sbatch.begin=now"])
    there = spec_of(ResultsRoot(tmp_path), entry(frozen), None, changes).config.cluster
    assert isinstance(there, SlurmCluster) and (there.time_min, there.sbatch) == (7, {"begin": "now"})
