"""What a config may say, and what names a run."""

from __future__ import annotations

import copy
import json

import pytest
import yaml
from running import tiny

from vocl import train
from vocl.config import identity
from vocl.config.check import check
from vocl.config.diff import diff
from vocl.config.migrate import migrate
from vocl.errors import UserError


@pytest.fixture
def config(tmp_path):
    return tiny(tmp_path).content


def put(config, path, value):
    """A copy of `config` with `value` at the dotted `path`."""
    config = copy.deepcopy(config)
    *parents, last = path.split(".")
    node = config
    for key in parents:
        node = node[key]
    node[last] = value
    return config


WRONG = [
    ("model.num_slots", 0, r"model\.num_slots=0: out of range, choose a value >= 1"),
    ("train.batch", -1, r"train\.batch=-1: out of range"),
    ("train.batch", 2.5, r"train\.batch=2\.5: expected a whole number"),
    ("train.batch", True, r"train\.batch=True: expected a whole number"),
    ("train.batch", None, r"train\.batch=None: expected a whole number"),
    ("train.batch", "many", r"train\.batch=many"),
    ("train.steps", float("inf"), r"train\.steps=inf"),
    ("train.steps", float("nan"), r"train\.steps=nan"),
    ("optim.lr", float("nan"), r"optim\.lr=nan"),
    ("optim.lr", float("inf"), r"optim\.lr=inf"),
    ("seed", "x", r"seed=x: expected a whole number"),
    ("train.clip", "x", r"train\.clip=x: expected a number or null"),
    ("train.precision", "fp4", r"train\.precision=fp4: choose from fp32, tf32, bf16, fp16, fp8"),
    ("train.speed", 1, r"train\.speed: unknown key, choose from steps"),
    ("dataset.flip", 1.5, r"dataset\.flip=1\.5: out of range"),
    ("dataset.size_px", [16], r"dataset\.size_px=\[16\]: expected \[height, width\]"),
    ("dataset.size_px", 16, r"dataset\.size_px=16: expected a list"),
    ("dataset.clip_frames", 1, r"dataset\.clip_frames=1: loss\.slot_contrast needs at least 2"),
    ("loss", {}, r"loss=\[\]: nothing to train on"),
    ("loss.slot_contrast.group", 3, r"loss\.slot_contrast\.group=3: does not divide train\.batch=4"),
    ("loss.slot_contrast._target_", "os.system", r"_target_=os\.system: outside the allowed packages"),
    ("model._target_", "subprocess.Popen", r"model\._target_=subprocess\.Popen: outside"),
    ("model._target_", "vocl.models.recurrent.Nothing", r"defines no 'Nothing'; choose from"),
    ("model._target_", "vocl.models.nowhere.X", r"no module 'vocl\.models\.nowhere'"),
    ("model.corrector._target_", "vocl.os.system", r"model\.corrector\._target_=vocl\.os\.system"),
    ("model.corrector", 3, r"model\.corrector: expected a mapping with a _target_"),
    ("curriculum.stages.all.length", 0.5, r"must add up to 1, not 0\.5"),
    ("curriculum.stages.all.active_slots", 99, r"active_slots=99: the model has model\.num_slots="),
    ("curriculum.stages.all.terms", ["ssim"], r"no term 'ssim', choose from feature_mse, slot_contrast"),
    ("curriculum.stages", {}, r"curriculum\.stages"),
    ("curriculum", {}, r"curriculum: expected a mapping with a _target_"),
    ("runtime.threads", 0, r"runtime\.threads=0: out of range"),
    ("eval.discovery.window", 0, r"eval\.discovery\.window=0"),
    ("warm_start", {"run": "x"}, r"warm_start\.take: missing"),
    ("train", 3, r"train=3: expected a mapping"),
]


@pytest.mark.parametrize(("path", "value", "said"), WRONG, ids=[f"{p}={v}" for p, v, _ in WRONG])
def test_what_is_wrong_is_named(config, path, value, said):
    with pytest.raises(UserError, match=said) as caught:
        check(put(config, path, value))
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named(config):
    del config["model"]["slot_dim"]
    with pytest.raises(UserError, match=r"model\.slot_dim: missing"):
        check(config)


def test_terms_need_what_the_model_provides(config, tmp_path):
    package = tmp_path / "needing"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from typing import ClassVar\n\n"
        "class Sharp:\n"
        "    needs: ClassVar[frozenset[str]] = frozenset({'slots', 'parent'})\n"
        "    def __init__(self, *, power: float) -> None: ...\n"
        "    def __call__(self, output, clip): ...\n"
    )
    config["project"] = str(tmp_path)
    config["loss"]["sharp"] = {"_target_": "needing.Sharp", "weight": 1, "level": None, "power": 2}
    with pytest.raises(
        UserError, match=r"loss\.sharp: needs parent, which model .* does not provide; it provides .*attn"
    ):
        check(config)


def test_checking_imports_no_target(config, tmp_path):
    package = tmp_path / "explosive"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from vocl import interface\n\n"
        "class Loss(interface.Loss):\n"
        "    needs = frozenset()\n"
        "    def __init__(self, *, power: float) -> None: ...\n\n"
        "raise SystemExit('imported')\n"
    )
    config["project"] = str(tmp_path)
    config["loss"]["explosive"] = {"_target_": "explosive.Loss", "weight": 1.0, "level": None, "power": 2}
    assert check(config).loss["explosive"].part["power"] == 2.0


# ------------------------------------------------------------------------------------------ identity


def test_one_value_is_one_run_however_it_is_written(config):
    same = put(put(config, "optim.weight_decay", 0), "train.clip", 1)
    assert check(same).run_id == identity.run_id(
        put(put(config, "optim.weight_decay", 0.0), "train.clip", 1.0)
    )
    ordered = {key: config[key] for key in sorted(config, reverse=True)}
    assert check(ordered).run_id == identity.run_id(config)
    assert check(config).content == config  # checking is idempotent
    through_yaml = yaml.safe_load(yaml.safe_dump(config))
    assert check(through_yaml).run_id == identity.run_id(config)


def test_what_names_a_run(config):
    run_id, cell_id = identity.run_id(config), identity.cell_id(config)
    assert len(run_id) == 10 and int(run_id, 16) >= 0
    seeded = put(config, "seed", 7)
    assert identity.run_id(seeded) != run_id and identity.cell_id(seeded) == cell_id
    for path, value in (
        ("runtime.root", "elsewhere"),
        ("runtime.workers", 3),
        ("cluster.slots", 9),
        ("eval", {}),
        ("eval.discovery.options.cyclic", True),
    ):
        other = put(config, path, value)
        assert (identity.run_id(other), identity.cell_id(other)) == (run_id, cell_id), path
    for path, value in (
        ("train.precision", "bf16"),
        ("model.num_slots", 5),
        ("backbone.patch_px", 8),
        ("loss.slot_contrast.weight", 0.1),
        ("dataset.source.seed", 1),
        ("optim.lr", 0.1),
        ("curriculum.stages.all.active_slots", 2),
        ("warm_start", {"run": "x", "take": ["*"]}),
    ):
        other = put(config, path, value)
        assert identity.run_id(other) != run_id and identity.cell_id(other) != cell_id, path


def test_the_order_of_stages_matters_and_that_of_terms_does_not(config):
    stage = config["curriculum"]["stages"].pop("all")
    stages = {"a": stage | {"length": 0.5}, "b": stage | {"length": 0.5, "active_slots": 1}}
    turned = {"b": stages["b"], "a": stages["a"]}
    ids = [identity.run_id(put(config, "curriculum.stages", s)) for s in (stages, turned)]
    assert ids[0] != ids[1]
    terms = dict(reversed(config["loss"].items()))
    both = put(config, "curriculum.stages", stages)
    assert identity.run_id(put(both, "loss", terms)) == ids[0]


def test_a_config_of_an_earlier_version_keeps_its_id(config, tmp_path, monkeypatch):
    """Replayed on one saved before two keys came and a third got its name."""
    old = copy.deepcopy(config)
    eps, reverse = old["optim"].pop("eps"), old["dataset"].pop("reverse")
    old["model"]["slots"] = old["model"].pop("num_slots")
    rules = {
        "added": {"optim.eps": eps, "dataset.reverse": reverse},
        "renamed": {"model.slots": "model.num_slots"},
        "targets": {"vocl.losses.mse": "vocl.losses.reconstruction"},
    }
    old["loss"]["feature_mse"]["_target_"] = "vocl.losses.mse.FeatureMSE"
    (tmp_path / "migrations.yaml").write_text(yaml.safe_dump(rules))
    monkeypatch.setattr("vocl.config.migrate.CONF", tmp_path)
    migrated = check(migrate(old)).content
    assert migrated == config
    bare = copy.deepcopy(config)
    del bare["optim"]["eps"], bare["dataset"]["reverse"]
    assert identity.run_id(migrated) == identity.run_id(bare)  # left out of the hash at the old value
    assert identity.run_id(put(config, "optim.eps", eps * 2)) != identity.run_id(migrated)
    assert migrate(migrated) == migrated


def test_differences_are_named(config):
    assert diff(config, config) == []
    changed = put(put(config, "optim.lr", 1.0), "warm_start", {"run": "a", "take": ["*"]})
    assert diff(config, changed) == [
        f"optim.lr: {config['optim']['lr']} -> 1.0",
        "warm_start: None -> {'run': 'a', 'take': ['*']}",
    ]


# ------------------------------------------------------------------------------------- saved configs


def test_a_saved_config_is_run_as_it_is(config, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(config))
    assert train.main(["--config", str(path), "--cfg", "job"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == config


@pytest.mark.parametrize("content", ["a: [", "- 1", "", "seed: 1", json.dumps({"x": 1}), b"\xff\xfe\x00"])
def test_a_saved_config_that_is_none_is_one_line(tmp_path, capsys, content):
    path = tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert train.main(["--config", str(path)]) == 2
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1 and str(path) in err
