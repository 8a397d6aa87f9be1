"""`vocl import` of SMTC's checkpoints and of plain DINO files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vocl import assemble, run
from vocl.commands import verbs
from vocl.config.compose import composed
from vocl.loading import load
from vocl.rundir.run_dir import RunDir
from vocl.stop import StopFlag

TINY = [
    "experiment=smtc/ytvos",
    "debug=tiny",
    "backbone.layer_scale=null",
    "model.num_semantics=3",
    "model.num_instances=2",
    "curriculum=fixed",
    "runtime.threads=1",
]
BACK = [  # names here to names in the release
    ("backbone.vit.", "encoder."),
    ("grouping.correspondence.from_products.", "transport_proj."),
    ("grouping.head.mlp.", "mlp_slot."),
    ("grouping.attention.mean", "slot_attention.slots_mu"),
    ("grouping.attention.log_std", "slot_attention.slots_sigma"),
    ("grouping.attention.norm_features.", "slot_attention.norm_input."),
    ("grouping.attention.norm_mlp.", "slot_attention.norm_pre_ff."),
    ("grouping.attention.to_", "slot_attention.project_"),
    ("grouping.attention.", "slot_attention."),
]


def released(name: str) -> str:
    ours, theirs = next(pair for pair in BACK if name.startswith(pair[0]))
    return theirs + name.removeprefix(ours)


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Weights of a tiny student by their names here, all different from any initialisation."""
    own = assemble.make_model(composed(TINY), pretrained=False).state_dict()
    generator = torch.Generator().manual_seed(0)
    students = {n: t for n, t in own.items() if not n.startswith("teacher.")}
    return {name: torch.randn(t.shape, generator=generator) for name, t in students.items()}


@pytest.fixture
def state(weights) -> dict[str, Tensor]:
    """The same as the release saves them, in its shapes, with the norm that it holds and never uses."""
    out = {released(name): tensor.clone() for name, tensor in weights.items()}
    out["transport_proj.weight"] = out["transport_proj.weight"].unsqueeze(-1)
    for name in ("slots_mu", "slots_sigma"):
        out[f"slot_attention.{name}"] = out[f"slot_attention.{name}"].unsqueeze(0)
    return out | {"encoder.norm.weight": torch.ones(48), "encoder.norm.bias": torch.zeros(48)}


def save(state: dict[str, Tensor], path: Path) -> Path:
    """A file with everything that section of the release's writes beside the weights."""
    content = {
        "iteration": 9500,
        "model_state_dict": state,
        "optimizer_state_dict": {},
        "loss": torch.ones(()),
    }
    torch.save(content, path)
    return path


def complaint(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_checkpoint_becomes_student_and_teacher(weights, state, tmp_path):
    file = save(state, tmp_path / "checkpoint_9500_loss_1.2.pth")
    assert verbs.import_(["smtc", str(file), str(tmp_path / "out"), *TINY]) == 0
    own = load(str(tmp_path / "out")).model.state_dict()
    assert own.keys() == weights.keys() | {f"teacher.{name}" for name in weights}
    for name, tensor in weights.items():
        assert torch.equal(own[name], tensor) and torch.equal(own[f"teacher.{name}"], tensor), name


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (
            ["dataset.size_px=[56,70]"],
            ["from_products.weight is 48x16x1 in the file and 48x20", "dataset.size_px"],
        ),
        (["model.num_semantics=4"], ["attention.mean is 1x3x1x48 in the file and 4x1x48", "num_semantics"]),
        (["model.attention.update=gru"], ["the file lacks grouping.attention.gru", "model.attention.update"]),
        (["model.head=null"], ["the config has no place for grouping.head.mlp", "model.head"]),
    ],
)
def test_a_config_that_does_not_fit(state, tmp_path, capsys, overrides, parts):
    file = save(state, tmp_path / "a.pth")
    assert verbs.import_(["smtc", str(file), str(tmp_path / "out"), *TINY, *overrides]) == 2
    line = complaint(capsys)
    assert all(part in line for part in parts), line
    assert not (tmp_path / "out").exists()


def test_a_plain_dino_file_is_the_backbone_of_a_run_that_has_not_begun(weights, tmp_path):
    vit = {n.removeprefix("backbone.vit."): t for n, t in weights.items() if n.startswith("backbone.")}
    torch.save(vit | {"norm.weight": torch.ones(48), "norm.bias": torch.zeros(48)}, tmp_path / "dino.pth")
    config = composed(TINY)
    assert verbs.import_(["dino", str(tmp_path / "dino.pth"), str(tmp_path / "out"), *TINY]) == 0
    own = load(str(tmp_path / "out")).model.state_dict()
    for name, tensor in vit.items():
        assert torch.equal(own[f"backbone.vit.{name}"], tensor)
        assert torch.equal(own[f"teacher.backbone.vit.{name}"], tensor)
    fresh = run.make_trainer(
        config, RunDir(tmp_path), torch.device("cpu"), StopFlag(), fresh=True, silent=True
    )
    begun = fresh.model.state_dict()
    rest = [name for name in own if ".vit." not in name]
    assert rest and all(torch.equal(own[name], begun[name]) for name in rest)


def test_a_plain_dino_file_is_a_backbone_alone_with_its_final_norm(weights, tmp_path):
    vit = {n.removeprefix("backbone.vit."): t for n, t in weights.items() if n.startswith("backbone.")}
    norm = {"norm.weight": torch.full((48,), 2.0), "norm.bias": torch.ones(48)}
    torch.save(vit | norm, tmp_path / "dino.pth")
    settings = [
        "experiment=backbone/davis2016",
        "debug=tiny",
        "backbone.layer_scale=null",
        "runtime.threads=1",
    ]
    assert verbs.import_(["dino", str(tmp_path / "dino.pth"), str(tmp_path / "out"), *settings]) == 0
    own = load(str(tmp_path / "out")).model.state_dict()
    assert own.keys() == {f"backbone.vit.{name}" for name in vit | norm}
    assert all(torch.equal(own[f"backbone.vit.{name}"], tensor) for name, tensor in (vit | norm).items())


def test_a_dino_file_is_no_checkpoint_of_smtc_and_the_other_way_round(state, tmp_path, capsys):
    torch.save({"blocks.0.norm1.weight": torch.ones(48)}, tmp_path / "dino.pth")
    assert verbs.import_(["smtc", str(tmp_path / "dino.pth"), str(tmp_path / "out"), *TINY]) == 2
    assert "not a checkpoint of smtc: unknown blocks.0.norm1.weight" in complaint(capsys)
    assert verbs.import_(["dino", str(save(state, tmp_path / "a.pth")), str(tmp_path / "out"), *TINY]) == 2
    assert "not a checkpoint of dino: unknown encoder." in complaint(capsys)
    assert verbs.import_(["dino", str(tmp_path / "dino.pth"), str(tmp_path / "out"), *TINY]) == 2
    assert "the file lacks backbone.vit." in complaint(capsys)


def test_a_file_without_weights_is_told(tmp_path, capsys):
    none = "holds no 'state_dict' or 'model_state_dict'"
    told = [({"iteration": 1}, none), ([1], none), ({}, none)]
    told += [({"a": torch.ones(1), "b": 2}, "not a checkpoint of smtc: unknown a;")]
    for i, (content, why) in enumerate(told):
        torch.save(content, tmp_path / f"{i}.pth")
        assert verbs.import_(["smtc", str(tmp_path / f"{i}.pth"), str(tmp_path / "out"), *TINY]) == 2
        assert why in complaint(capsys)
