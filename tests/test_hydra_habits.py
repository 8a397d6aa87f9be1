"""What Hydra's users write works as there, or one line says what to use instead; nothing is ignored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.cli import main as vocl
from launch.selection.plan import select
from vocl import train
from vocl.config.identity import run_id


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake is told in."""
    assert train.main(list(arguments)) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    return error


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict]:
    assert train.main(list(arguments)) == 0
    out, error = capsys.readouterr()
    assert error == ""
    return list(yaml.safe_load_all(out))


@pytest.mark.parametrize("multirun", [["-m"], ["--multirun"]])
def test_configs_of_several_runs_are_printed_and_nothing_is_trained(tmp_path, capsys, multirun) -> None:
    root = tmp_path / "results"
    arguments = ["debug=tiny", "seed=0,1", f"runtime.root={root}"]
    found = printed(capsys, *multirun, *arguments, "--cfg", "job")
    assert [config["seed"] for config in found] == [0, 1]
    assert [run_id(config) for config in found] == [spec.id for spec in select(arguments).specs]
    assert not root.exists()


def test_overrides_and_options_come_in_any_order(capsys) -> None:
    orders = [
        ["--cfg", "job", "seed=3", "debug=tiny"],
        ["seed=3", "--cfg", "job", "debug=tiny"],
        ["seed=3", "debug=tiny", "--cfg=job"],
        ["seed=3", "-c", "job", "debug=tiny"],
        ["--resolve", "seed=3", "-c", "job", "debug=tiny"],
    ]
    first, *others = [printed(capsys, *order) for order in orders]
    assert first[0]["seed"] == 3 and all(other == first for other in others)


IGNORED = {
    "hydra.run.dir=/somewhere": "set runtime.root",
    "hydra.sweep.dir=/somewhere": "set runtime.root",
    "hydra.sweep.subdir=x": "set runtime.root",
    "hydra/launcher=submitit_slurm": "choose cluster=here, local or slurm",
    "hydra/launcher=joblib": "choose cluster=here, local or slurm",
    "hydra.launcher.timeout_min=60": "set cluster",
    "hydra/sweeper=basic": "-m hydra/sweeper=NAME",
    "hydra.sweeper.params={}": "-m hydra/sweeper=NAME",
    "hydra.mode=MULTIRUN": "python -m vocl.train -m",
    "hydra.job.chdir=true": "runs keep the folder",
    "+hydra.job.env_set.X=1": "runs keep the folder",
    "hydra/job_logging=disabled": "leave it out",
    "hydra.verbose=true": "leave it out",
    "~hydra.run.dir": "set runtime.root",
}


@pytest.mark.parametrize(("override", "instead"), IGNORED.items(), ids=list(IGNORED))
@pytest.mark.parametrize("door", [["--cfg", "job"], ["-m"], []], ids=["cfg", "multirun", "run"])
def test_settings_without_effect_say_what_to_use(tmp_path, capsys, override, instead, door) -> None:
    if door == ["-m"] and override.startswith("hydra/sweeper"):
        pytest.skip("this is where a sweeper belongs")
    root = tmp_path / "results"
    error = told(capsys, *door, "debug=tiny", f"runtime.root={root}", override)
    assert error.startswith(f"{override}: has no effect here; ") and instead in error
    assert not root.exists()


@pytest.mark.parametrize("verb", ["plan", "submit"])
def test_our_own_verbs_say_it_too(tmp_path, capsys, verb) -> None:
    arguments = ["debug=tiny", f"runtime.root={tmp_path}/results", "hydra.run.dir=x"]
    assert vocl([verb, *arguments]) == 2
    assert capsys.readouterr().err.startswith("hydra.run.dir=x: has no effect here; ")


OPTIONS = {
    ("-cn", "other"): "experiment=NAME",
    ("--config-name=other",): "experiment=NAME",
    ("--config-dir", "x"): "project=PATH",
    ("-cp", "x"): "project=PATH",
    ("--info", "all"): "vocl plan",
    ("-p", "optim"): "--cfg job",
    ("--hydra-help",): "--help",
}


@pytest.mark.parametrize(("option", "instead"), OPTIONS.items(), ids=str)
def test_options_of_hydra_that_are_not_here(capsys, option, instead) -> None:
    error = told(capsys, "debug=tiny", *option)
    assert "not here; " in error and instead in error


def test_combinations_that_mean_nothing(tmp_path, capsys) -> None:
    assert "a saved config is one run" in told(capsys, "-m", "--config", str(tmp_path / "config.yaml"))
    assert "a sweeper chooses its runs" in told(capsys, "-m", "hydra/sweeper=basic", "--cfg", "job")
    error = told(capsys, "--cfg", "hydra")
    assert "--cfg" in error and "'hydra'" in error and "'job'" in error


SWEEPER = """
from pathlib import Path
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

node = {"_target_": "hydra_plugins.made_up_sweeper.MadeUp"}
ConfigStore.instance().store(group="hydra/sweeper", name="made_up", node=node, provider="made_up")

class MadeUp(Sweeper):
    def setup(self, *, hydra_context, task_function, config):
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        (found,) = self.launcher.launch([arguments], initial_job_idx=0)
        place = Path(self.config.hydra.sweep.dir)
        (place / "optimization_results.yaml").write_text(f"best: {found.return_value}")
"""


@pytest.mark.parametrize("asked", [False, True])
def test_what_a_sweeper_writes_stays(tmp_path: Path, asked: bool) -> None:
    plugins = tmp_path / "hydra_plugins"
    plugins.mkdir()
    (plugins / "made_up_sweeper.py").write_text(SWEEPER)
    root, own = tmp_path / "results", tmp_path / "asked for"
    place = [f"hydra.sweep.dir='{own}'"] if asked else []
    arguments = ["debug=tiny", f"runtime.root={root}"]
    (spec,) = select(arguments).specs
    entry = {
        "eval_id": "0",
        "protocol": "vocl",
        "num_videos": 2,
        "metrics": {"video_fg_ari": 0.5},
        "rows": "x",
    }
    result = {"run_id": spec.id, "metrics": {}, "evals": {"discovery": entry}}
    (root / "runs" / spec.id).mkdir(parents=True)
    (root / "runs" / spec.id / "result.json").write_text(json.dumps(result))
    done = subprocess.run(
        [sys.executable, "-m", "vocl.train", "-m", "hydra/sweeper=made_up", *arguments, *place],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (found,) = (own if asked else root / "multirun").rglob("optimization_results.yaml")
    assert found.read_text() == "best: 0.5"


@pytest.mark.parametrize("verb", ["plan", "submit"])
def test_zero_has_no_sign(tmp_path, verb) -> None:
    ids = {
        spec.id
        for value in ("0.0", "-0.0", "0", "-0")
        for spec in select([f"dataset.flip={value}", f"runtime.root={tmp_path}"]).specs
    }
    assert len(ids) == 1


MOVING = [
    "dataset.name=${runtime.root}",
    "dataset.name=${..runtime.root}",
    "dataset.name=${...runtime.root}",
    "dataset.source._target_=${...runtime.root}",
    "dataset.name=${ ..cluster.kind }",
    "dataset.name=${..runtime[root]}",
    "dataset.name=${[runtime].root}",
    "dataset.name='${${model._target_}.root}'",
    "dataset.name='${..${dataset.fit}.root}'",
    "dataset.name=a${..project}b",
    "dataset.augment=[${...runtime.root}]",
    "dataset.name=${oc.env:HOME}",
    "dataset.name=${now:%Y}",
    "dataset.name=${oc.select:runtime.root}",
    "dataset.name='${oc.dict.keys:runtime}'",
    "dataset.name=${..eval.discovery.split}",
    "optim.lr=${..runtime.threads}",
]


@pytest.mark.parametrize("override", MOVING)
def test_a_place_takes_no_part_in_an_identity(capsys, override) -> None:
    key = override.partition("=")[0]
    error = told(capsys, override, "--cfg", "job")
    assert error.startswith(f"{key}") and "is part of the run id" in error, error


STILL = {
    "dataset.name=${..optim.lr}": lambda config: config["optim"]["lr"],
    "dataset.name=${model.num_slots}": lambda config: config["model"]["num_slots"],
    "dataset.name=${.fit}": lambda config: config["dataset"]["fit"],
    "dataset.name=runtime.root": lambda config: "runtime.root",
}


@pytest.mark.parametrize(("override", "means"), STILL.items(), ids=list(STILL))
def test_what_identifies_a_run_may_be_referred_to(capsys, override, means) -> None:
    train.main([override, "--cfg", "job"])
    out, error = capsys.readouterr()
    assert "is part of the run id" not in error
    if out:
        config = yaml.safe_load(out)
        assert config["dataset"]["name"] == means(config)
