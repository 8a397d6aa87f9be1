"""`vocl import`: what it takes from a file, what it refuses, and that nothing in a file runs."""

from __future__ import annotations

import json
import os
import sys
import types
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vocl import assemble
from vocl.commands import verbs
from vocl.config.compose import composed
from vocl.loading import load
from vocl.nn.backbones.weights_file import read_state_dict
from vocl.reference import importer, slotcontrast

TINY = [
    "experiment=slotcontrast/synthetic",
    "backbone=tiny_vit",
    "dataset.size_px=[28,42]",
    "model.num_slots=3",
    "model.slot_dim=8",
    "model.adapter.hidden_ratio=2",
    "runtime.threads=1",
]
BACK = [  # names here to names in the release
    ("initializer.slots", "initializer.slots"),
    ("backbone.vit.", "encoder.module.backbone.model."),
    ("adapter.norm.", "encoder.module.output_transform.layers.0."),
    ("adapter.mlp.0.", "encoder.module.output_transform.layers.1."),
    ("adapter.mlp.2.", "encoder.module.output_transform.layers.3."),
    ("corrector.norm_mlp.", "processor.module.corrector.mlp.layers.0."),
    ("corrector.mlp.0.", "processor.module.corrector.mlp.layers.1."),
    ("corrector.mlp.2.", "processor.module.corrector.mlp.layers.3."),
    ("corrector.", "processor.module.corrector."),
    ("predictor.", "processor.module.predictor."),
    ("decoder.pos_emb", "decoder.module.pos_emb"),
    ("decoder.mlp.", "decoder.module.mlp.layers."),
]


def released(name: str) -> str:
    ours, theirs = next(pair for pair in BACK if name.startswith(pair[0]))
    return theirs + name.removeprefix(ours)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """Weights of a tiny model by their names here, all different from any initialisation."""
    own = assemble.make_model(composed(TINY), pretrained=False).state_dict()
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(t.shape, generator=generator) for name, t in own.items()}


@pytest.fixture
def state(weights) -> dict[str, torch.Tensor]:
    """The same as the release would save them."""
    out = {released(name): tensor.clone() for name, tensor in weights.items()}
    out["decoder.module.pos_emb"] = out["decoder.module.pos_emb"][None, None]
    return out


def run(source: Path, out: Path, *overrides: str) -> int:
    return verbs.import_(["slotcontrast", str(source), str(out), *TINY, *overrides])


def complaint(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def same(out: Path, weights: dict[str, torch.Tensor]) -> bool:
    own = load(str(out)).model.state_dict()
    return own.keys() == weights.keys() and all(torch.equal(own[n], weights[n]) for n in own)


def test_both_kinds_of_file_become_a_run(weights, state, tmp_path):
    torch.save({"state_dict": state, "global_step": 7}, tmp_path / "a.ckpt")
    save_file(
        {f"state_dict.{k}": v for k, v in state.items()} | {"x": torch.ones(1)}, tmp_path / "b.safetensors"
    )
    for file in ("a.ckpt", "b.safetensors"):
        out = tmp_path / "runs" / file
        assert run(tmp_path / file, out) == 0
        assert same(out, weights)
        found = load(str(out))
        assert found.checkpoint.step == found.config.train.steps
        assert not [p for p in out.parent.iterdir() if p.name.startswith(".")]
        record = json.loads((out / "events" / "0001-imported.json").read_text())
        assert record["file"] == file and len(record["sha256"]) == 64


def test_the_frozen_backbone_is_stored_once_and_apart(state, tmp_path):
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "out") == 0
    files = {p.suffix for p in (tmp_path / "out" / "checkpoints").iterdir()}
    assert files == {".pt", ".safetensors"}


def test_an_import_starts_another_run(weights, state, tmp_path):
    from running import run_folder

    from vocl.run import run as train

    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "out") == 0
    settings = [
        f"warm_start={{run: {tmp_path / 'out'}, take: ['*']}}",
        "train.steps=1",
        "train.batch=2",
        "optim/schedule=half_life",  # its first rate is 0
        "optim.schedule.warmup_steps=1",
        "eval=[]",
        f"runtime.root={tmp_path}",
        "dataset.source.num_train=2",
    ]
    config = composed([*TINY, *settings])
    assert train(config) == 0
    assert same(run_folder(config), weights)


# ---------------------------------------------------------------------------- nothing in a file runs


class Malicious:
    """Unpickles by running a command."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, eval, exec, __import__])
def test_code_in_a_file_is_inert(weights, state, tmp_path, function):
    trap = tmp_path / "trap"
    text = f"touch {trap}" if function is os.system else f"open({str(trap)!r}, 'w')"
    text = "this" if function is __import__ else text
    sys.modules.pop("this", None)
    torch.save({"callbacks": Malicious(function, text), "state_dict": state}, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "out") in (0, 2)
    assert not trap.exists() and "this" not in sys.modules
    if (tmp_path / "out").exists():
        assert same(tmp_path / "out", weights)


def test_code_in_place_of_a_tensor_is_refused(state, tmp_path, capsys):
    name = "initializer.slots"
    torch.save({"state_dict": state | {name: Malicious(eval, "1")}}, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "out") == 2
    assert f"the file lacks {name}" in complaint(capsys)


def test_objects_of_unknown_classes_do_not_stand_in_the_way(weights, state, tmp_path, monkeypatch):
    """Callbacks, loops and hyper-parameters as Lightning pickles them; the module is gone on reading."""
    module = types.ModuleType("lightning_of_old")
    code = """
import enum
class Callback:
    def __init__(self): self.best, self.paths = 1.0, ["a"]
class Hparams(dict): pass
class Items(list): pass
class Stage(enum.Enum): FIT = 1
class Slotted:
    __slots__ = ("x",)
"""
    exec(code, module.__dict__)
    slotted = module.Slotted()
    slotted.x = 1
    content = {
        "callbacks": {module.Callback: {"state": module.Callback()}, "stage": {module.Stage.FIT: 3}},
        "hyper_parameters": module.Hparams(a=1, b=module.Items([1, 2])),
        "loops": {"set": {1, 2}, "path": Path("x"), "bytes": b"abc", "slotted": slotted, "big": 2**80},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(3)}}}],
    }
    content["state_dict"] = state
    monkeypatch.setitem(sys.modules, "lightning_of_old", module)
    for item in vars(module).values():
        if isinstance(item, type):
            item.__module__ = "lightning_of_old"
    torch.save(content, tmp_path / "a.ckpt")
    monkeypatch.delitem(sys.modules, "lightning_of_old")
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert run(tmp_path / "a.ckpt", tmp_path / "out") == 0
    assert same(tmp_path / "out", weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_the_inert_reader_rebuilds_any_layout(tmp_path, dtype):
    base = torch.arange(24).to(dtype)
    tensors = {
        "whole": base.view(4, 6),
        "part": base.view(4, 6)[1:, ::2],
        "turned": base.view(4, 6).t(),
        "scalar": base[5],
        "none": base[:0],
        "parameter": torch.nn.Parameter(base.clone(), requires_grad=dtype.is_floating_point),
    }
    torch.save({"state_dict": tensors, "loops": Path("/"), "x": Malicious(eval, "1")}, tmp_path / "a.ckpt")
    found = read_state_dict(tmp_path / "a.ckpt")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[n], tensors[n]) and found[n].dtype == dtype for n in tensors)


# ------------------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        (
            "model.num_slots=4",
            ("initializer.slots is 1x3x8 in the file and 1x4x8 by the config", "model.num_slots"),
        ),
        ("dataset.size_px=[28,28]", ("decoder.pos_emb is 1x1x6x8", "dataset.size_px")),
        ("model.decoder.hidden_dim=9", ("decoder.mlp.0.weight", "model.decoder.hidden_dim")),
        (
            "model.corrector.mlp_dim=null",
            ("the config has no place for corrector.", "model.corrector.mlp_dim"),
        ),
        ("model.predictor.num_blocks=2", ("the file lacks predictor.blocks.1", "model.predictor.num_blocks")),
        ("backbone.block=1", ("the config has no place for backbone.vit.blocks.1", "backbone")),
    ],
)
def test_a_config_that_does_not_fit(state, tmp_path, capsys, override, parts):
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "out", override) == 2
    line = complaint(capsys)
    assert all(part in line for part in parts), line
    assert not (tmp_path / "out").exists()


def garbage(path: Path, state) -> None:
    path.write_bytes(b"no checkpoint at all")


def empty(path: Path, state) -> None:
    path.touch()


def cut(path: Path, state) -> None:
    torch.save({"state_dict": state}, path)
    path.write_bytes(path.read_bytes()[:5000])


def no_state(path: Path, state) -> None:
    torch.save({"weights": state}, path)


def a_list(path: Path, state) -> None:
    torch.save([1, 2], path)


def other_zip(path: Path, state) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")


def other_method(path: Path, state) -> None:
    torch.save({"state_dict": {"encoder.weight": torch.ones(2)}}, path)


def other_keys(path: Path, state) -> None:
    save_file({"model.weight": torch.ones(2)}, path)


def not_finite(path: Path, state) -> None:
    state["initializer.slots"][0, 0, 0] = torch.nan
    torch.save({"state_dict": state}, path)


@pytest.mark.parametrize(
    ("damage", "suffix"),
    [(d, ".ckpt") for d in (garbage, empty, cut, no_state, a_list, other_zip, other_method, not_finite)]
    + [(garbage, ".safetensors"), (other_keys, ".safetensors")],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_files_that_will_not_do(state, tmp_path, capsys, damage, suffix):
    path = tmp_path / f"file{suffix}"
    damage(path, state)
    assert run(path, tmp_path / "out") == 2
    assert str(path) in complaint(capsys)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_use_is_left_alone(state, tmp_path, capsys):
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").touch()
    assert run(tmp_path / "a.ckpt", out) == 2
    assert "not empty" in complaint(capsys)
    assert [p.name for p in out.iterdir()] == ["precious"]


def test_a_place_that_cannot_be_written(state, tmp_path, capsys):
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "a.ckpt" / "out") == 2
    assert "cannot write there" in complaint(capsys)


@pytest.mark.parametrize("arguments", [[], ["slotcontrast"], ["slotcontrast", "a", "b", "c"]])
def test_usage(arguments, capsys):
    assert verbs.import_(arguments) == 2
    assert "vocl import" in complaint(capsys)


def test_unknown_method_names_the_known_ones(tmp_path, capsys):
    assert verbs.import_(["slotformer", "a", "b"]) == 2
    assert "choose from dino, slotcontrast" in complaint(capsys)


def test_every_name_of_a_release_has_one_place(state):
    names = [importer.rename(slotcontrast, name) for name in state]
    assert None not in names and len(set(names)) == len(names)


def test_the_release_of_movi_c_has_a_place_for_each_of_its_217_tensors():
    """Names, shapes and counts as the paper's model has them; no weights are needed."""
    own = assemble.make_model(composed(["experiment=slotcontrast/movi_c"]), pretrained=False)
    shapes = {released(name): tuple(t.shape) for name, t in own.state_dict().items()}
    assert len(shapes) == 217
    frozen = [p.numel() for p in own.parameters() if not p.requires_grad]
    trained = [p.numel() for p in own.parameters() if p.requires_grad]
    assert (len(frozen), sum(frozen)) == (172, 22_055_424)
    assert (len(trained), sum(trained)) == (45, 3_064_321)
    assert shapes["encoder.module.backbone.model.pos_embed"] == (1, 1370, 384)
    assert shapes["decoder.module.pos_emb"] == (576, 64)
    assert shapes["decoder.module.mlp.layers.6.weight"] == (385, 1024)
    assert shapes["processor.module.predictor.blocks.0.self_attn.qkv.weight"] == (192, 64)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model.net."],
)
@pytest.mark.parametrize("place", ["state_dict", "model", None])
def test_wrappers_are_taken_off(weights, state, tmp_path, prefix, place):
    wrapped = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    torch.save({place: wrapped} if place else wrapped, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "runs" / "a") == 0
    assert same(tmp_path / "runs" / "a", weights)


def test_a_part_that_was_compiled_and_bare_safetensors(weights, state, tmp_path):
    inside = {name.replace("backbone.model.", "backbone.model._orig_mod."): t for name, t in state.items()}
    torch.save(inside | {"epoch": 3}, tmp_path / "a.ckpt")
    save_file(state, tmp_path / "b.safetensors")
    for name in ("a.ckpt", "b.safetensors"):
        assert run(tmp_path / name, tmp_path / "runs" / name) == 0
        assert same(tmp_path / "runs" / name, weights)


def test_a_prefix_that_is_no_wrapper_is_named(state, tmp_path, capsys):
    torch.save({f"teacher.{name}": tensor for name, tensor in state.items()}, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "out") == 2
    assert "all names begin with teacher." in complaint(capsys)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.bfloat16, torch.float64])
def test_any_kind_of_float_is_read(state, tmp_path, dtype):
    torch.save({name: tensor.to(dtype) for name, tensor in state.items()}, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "runs" / "a") == 0
    own = load(str(tmp_path / "runs" / "a")).model.state_dict()
    slots = state["initializer.slots"]
    assert torch.equal(own["initializer.slots"], slots.to(dtype).to(slots.dtype))


@pytest.mark.parametrize(
    ("odd", "word"),
    {
        lambda t: t.to("meta"): "meta",
        lambda t: t.to_sparse(): "sparse",
        lambda t: t.to(torch.complex64): "complex64",
    }.items(),
    ids=["meta", "sparse", "complex"],
)
def test_tensors_without_plain_values_are_named(state, tmp_path, capsys, odd, word):
    state["initializer.slots"] = odd(state["initializer.slots"])
    torch.save(state, tmp_path / "a.ckpt")
    assert run(tmp_path / "a.ckpt", tmp_path / "out") == 2
    line = complaint(capsys)
    assert word in line and "initializer.slots" in line
