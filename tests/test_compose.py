"""From the command line to a config: every mistake is one line and writes nothing."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import hydra
import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from launch import cli
from launch.selection.submitted import root_in
from vocl import train
from vocl.config import folders
from vocl.config.check import check
from vocl.config.compose import compose, composed, group_choices
from vocl.config.grammar import literal, text_of
from vocl.errors import UserError
from vocl.files import user_path


def project(folder, **files):
    """A project folder with a package and the config files `files` (path with __ for /)."""
    (folder / "ours").mkdir(parents=True)
    (folder / "ours" / "__init__.py").write_text("")
    for name, content in files.items():
        path = folder / "conf" / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


MISTAKES = {
    "model.num_slts=3": ["model.num_slts", "model.num_slots"],
    "nothing=3": ["nothing", "train"],
    "+train.speed=3": ["train.speed", "unknown key", "batch"],
    "model.num_slots=0": ["model.num_slots=0", ">= 1"],
    "train.batch=-1": ["train.batch=-1", ">= 1"],
    "train.steps=soon": ["train.steps=soon", "whole number"],
    "model=slotcontrst": ["model=slotcontrst", "slotcontrast", "savi"],
    "loss=[feature_mse,ssimm]": ["loss=ssimm", "feature_mse"],
    "experiment=slotcontrast/movi_x": ["slotcontrast/movi_x", "slotcontrast/movi_c"],
    "models=savi": ["models"],
    "train.steps=[1": ["train.steps=[1"],
    "train.steps": ["train.steps"],
    "=3": ["=3"],
    "seed=0,1": ["seed"],
    "model._target_=os.system": ["model._target_=os.system", "outside"],
    "optim.lr=${runtime.threads}": ["optim.lr=${runtime.threads}", "may not depend"],
    "optim.lr=${oc.env:HOME}": ["optim.lr", "may not depend"],
    "optim.lr=${nowhere}": ["nowhere"],
    "optim.lr=${nothing:3}": ["nothing"],
    "optim.lr=???": ["optim.lr"],
    "dataset=files": ["dataset.name"],
    "project=/nowhere": ["project=/nowhere: no such folder"],
    "+project.x=3": ["project={'x': 3}", "expected a folder"],
    "loss=null": ["loss=null", "string or a list"],
    "cluster=[1,[2]]": ["cluster=[1,[2]]", "cannot be composed"],
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, capfd, monkeypatch, override):
    monkeypatch.chdir(tmp_path)
    assert train.main([override]) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1, err
    for word in MISTAKES[override]:
        assert word in err
    assert not list(tmp_path.iterdir())


def test_broken_yaml_is_named_with_its_place(tmp_path, capfd, monkeypatch):
    folder = project(tmp_path / "mine", loss__broken="weight: [1\nlevel: null\n")
    monkeypatch.chdir(tmp_path)
    assert train.main([f"project={folder}", "loss=[broken]"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1, err
    assert "broken.yaml" in err and "not valid YAML" in err


def test_a_project_without_conf_or_package(tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="holds no Python package"):
        composed([f"project={tmp_path / 'bare'}"])
    taken = tmp_path / "taken" / "yaml"
    taken.mkdir(parents=True)
    (taken / "__init__.py").write_text("")
    with pytest.raises(UserError, match="name of an installed one"):
        composed([f"project={tmp_path / 'taken'}"])


def test_a_project_adds_choices(tmp_path):
    folder = project(
        tmp_path / "mine",
        loss__mine="# @package loss.mine\n_target_: ours.Mine\nweight: 1\nlevel: null\npower: 2\n",
    )
    (folder / "ours" / "__init__.py").write_text(
        "class Mine:\n    needs = frozenset()\n    def __init__(self, *, power: float): ...\n"
        "    def __call__(self, output, clip): ...\n"
    )
    config = composed([f"project={folder}", "loss=[feature_mse,mine]"])
    assert config.loss["mine"].content == {
        "_target_": "ours.Mine",
        "weight": 1.0,
        "level": None,
        "power": 2.0,
    }
    assert "mine" in group_choices("loss", str(folder)) and "mine" not in group_choices("loss")


def test_a_term_that_is_left_out_leaves_nothing_behind():
    config = composed(["loss=[feature_mse]"])  # the experiment sets slot_contrast.weight
    assert list(config.loss) == ["feature_mse"]
    with pytest.raises(UserError, match=r"feature_mze"):
        composed(["+loss.feature_mze.weight=3"])


def test_the_bare_command_is_its_experiment():
    bare, named = (composed(o) for o in ([], ["experiment=slotcontrast/synthetic"]))
    assert bare.run_id == named.run_id


def test_no_evaluation_and_an_empty_list():
    assert compose(["eval=[]"])["eval"] == {}


def test_a_mistake_in_a_process_of_its_own(tmp_path):
    """As a user meets it: no warning of a library beside the line, and no torch for it."""
    probe = "import sys; from vocl.train import main; c = main(); sys.exit(c + ('torch' in sys.modules))"
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "-c", probe, "train.batch=-1"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
    assert not list(tmp_path.iterdir())


def test_a_program_under_hydra_stays_so():
    with hydra.initialize_config_dir(str(folders.CONF), version_base="1.3"):
        compose([])
        assert GlobalHydra.instance().is_initialized()


def test_the_composed_config_is_printed_whole(capsys):
    assert train.main(["--cfg", "job", "seed=3"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["seed"] == 3 and check(printed).content == printed


def test_another_curriculum_replaces_the_experiments_stages():
    config = check(compose(["experiment=slotcurri/movi_c", "curriculum=fixed"]))
    assert list(config.curriculum["stages"]) == ["all"]


def test_code_of_ones_own_that_is_not_python(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/__init__.py").touch()
    (tmp_path / "mine/bad.py").write_text("import os\ndef broken(:\n")
    (tmp_path / "conf/loss").mkdir(parents=True)
    (tmp_path / "conf/loss/bad.yaml").write_text(
        "# @package loss.bad\n_target_: mine.bad.Bad\nweight: 1\nlevel: null\n"
    )
    with pytest.raises(UserError, match=r"bad\.py:2: not valid Python"):
        check(compose([f"project={tmp_path}", "loss=[feature_mse,bad]"]))


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999999"])
def test_seeds_in_range(seed):
    with pytest.raises(UserError, match=f"seed={seed}: out of range"):
        check(compose([f"seed={seed}"]))


def test_a_part_is_swapped_by_its_group_and_leaves_nothing_behind():
    config = composed(["experiment=slotcontrast/movi_c", "model/decoder=slot_mixer"])
    assert config.model["decoder"] == composed(["experiment=videosaur/movi_c"]).model["decoder"]
    assert composed(["model=dinosaur", "model/predictor=transformer"]).model["predictor"]["num_heads"] == 4


def test_a_part_of_a_project_is_swapped_in_by_yaml_alone(tmp_path):
    folder = project(
        tmp_path / "mine",
        model__decoder__mine="_target_: ours.Mine\ndim: 64\n",
        experiment__mine="# @package _global_\n"
        "defaults:\n  - slotcontrast/movi_c\n  - override /model/decoder: mine\n",
    )
    (folder / "ours" / "__init__.py").write_text(
        "from torch import nn\n\nclass Mine(nn.Module):\n    def __init__(self, a, b, c, *, dim: int): ...\n"
    )
    config = composed([f"project={folder}", "experiment=mine"])
    assert config.model["decoder"] == {"_target_": "ours.Mine", "dim": 64}


def test_an_experiment_that_sets_numbers_of_another_part_is_named_with_the_way_out():
    with pytest.raises(UserError) as caught:
        composed(["experiment=savi/synthetic", "model/decoder=flat"])
    message = str(caught.value)
    assert message.startswith("model.decoder.channels: unknown key, choose from hidden_dim, num_layers")
    assert "experiment/savi/synthetic.yaml sets it" in message
    way_out = message.rpartition("drop it with ")[2].split()
    assert composed(["experiment=savi/synthetic", "model/decoder=flat", *way_out])


@pytest.mark.parametrize(
    "value",
    ["~/res", "/tmp/a=b", "/tmp/a#b", "a&b", "a;b", "a(b", "a!b", "a'b", 'a"b', "a]b", "a b\\", "ü#", "{a"],
)
def test_what_the_grammar_refuses_is_told_with_the_quoted_form_that_works(value, capsys):
    override = f"runtime.root={value}"
    for main, arguments in ((train.main, ["--cfg", "job"]), (cli.main, ["plan"])):
        if main([*arguments, override]) == 2:
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(override) and "; write " in line
            (override,) = shlex.split(line.partition("; write ")[2])
        assert compose([override])["runtime"]["root"] == value
    assert root_in([override])[0].path == user_path(value)


@pytest.mark.parametrize(
    "name", ["my project", "项目", "a,b", "a#b", "a]b", "a=b", "a'b", 'a"b', "a%b", "a(b"]
)
def test_a_project_may_lie_in_a_folder_of_any_name(tmp_path, name):
    group = tmp_path / name / "conf" / "experiment"
    group.mkdir(parents=True)
    (group / "mine.yaml").write_text("# @package _global_\noptim: {lr: 0.125}\n")
    config = compose([f"project={literal(str(tmp_path / name))}", "experiment=mine"])
    assert config["optim"]["lr"] == 0.125
    assert config["project"] == str(tmp_path / name)


@pytest.mark.parametrize("text", ["a", "a'b", 'a"b', "a\\", 'a\\"b', 'ü"', '\\\\"', "a\\\\b", ""])
def test_quotes_are_put_and_taken_as_the_grammar_does(text):
    assert text_of(literal(text)) == text
    assert OverridesParser.create().parse_override(f"key={literal(text)}").value() == text
