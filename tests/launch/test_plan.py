from __future__ import annotations

from pathlib import Path

import pytest

from launch.ablations.overrides import in_grammar
from launch.cli import main
from launch.selection.plan import select, select_jobs
from vocl.config.check import check
from vocl.config.compose import compose
from vocl.errors import UserError


def test_an_ablation_is_rows_by_seeds_and_each_equals_a_composition_of_its_own(declare) -> None:
    project = declare()
    specs = select(["trio", project]).specs
    assert [(s.row, s.column, s.seed) for s in specs] == [
        (row, "all", seed) for row in ("none", "video", "batch") for seed in (0, 1)
    ]
    own = {"none": ["loss=[feature_mse]"], "video": ["loss.slot_contrast.group=1"], "batch": []}
    for spec in specs:
        alone = check(compose(["train.steps=7", *own[spec.row], f"seed={spec.seed}", project]))
        assert spec.config == alone
        assert spec.id == alone.run_id
        assert spec.cell == alone.cell_id()


def test_row_wins_over_column_over_base(declare) -> None:
    text = """
base: {train.steps: 1, train.batch: 2, model.num_slots: 2}
columns: {c: {train.steps: 2, train.batch: 4}}
rows: {r: {train: {steps: 3}}}
seeds: [5]
metrics: [video_mbo]
"""
    (spec,) = select(["ablation=trio", declare(text)]).specs
    assert (
        spec.config.train.steps,
        spec.config.train.batch,
        spec.config.model["num_slots"],
    ) == (3, 4, 2)
    assert spec.seed == 5


def test_command_line_wins_over_the_file_and_replaces_its_seeds(declare) -> None:
    specs = select(["trio", declare(), "train.steps=9", "seed=3,4"]).specs
    assert {s.config.train.steps for s in specs} == {9}
    assert {s.seed for s in specs} == {3, 4}


def test_debug_applies_after_what_the_ablation_sets(declare) -> None:
    text = "base: {train.steps: 700, dataset: movi_c}\nrows: {r: {}}\nseeds: [0]\nmetrics: [video_mbo]"
    (spec,) = select(["trio", declare(text), "debug=tiny"]).specs
    assert spec.config.train.steps == 6
    assert spec.config.dataset.name == "synthetic"


def test_equal_runs_collapse(declare) -> None:
    text = "rows: {a: {}, b: {train.batch: 16.0}, c: {train.batch: 16}}\nseeds: [0]\nmetrics: [video_mbo]"
    selection = select(["trio", declare(text), "experiment=slotcontrast/synthetic", "train.batch=16"])
    assert len(selection.specs) == 3
    assert [spec.row for spec in selection.runs] == ["a"]


def test_plain_overrides_expand_comma_lists() -> None:
    specs = select(["train.steps=4", "model.num_slots=4,5", "seed=0,1"]).specs
    assert [(s.row, s.seed) for s in specs] == [
        ("model.num_slots=4", 0),
        ("model.num_slots=4", 1),
        ("model.num_slots=5", 0),
        ("model.num_slots=5", 1),
    ]
    assert len({s.id for s in specs}) == 4
    assert len({s.cell for s in specs}) == 2


def test_the_place_is_chosen_per_run() -> None:
    specs = select(["cluster=here,local", "seed=0,1"]).specs
    assert [(s.config.cluster.kind, s.seed) for s in specs] == [
        ("here", 0),
        ("here", 1),
        ("local", 0),
        ("local", 1),
    ]
    assert len({s.id for s in specs}) == 2  # the place is no part of what is run


def test_a_glob_chooses_among_the_files_of_a_group() -> None:
    assert [s.row for s in select(["cluster=glob([h*,l*])"]).specs] == ["cluster=here", "cluster=local"]


def test_jobs_of_a_launcher_are_the_runs_of_the_same_lists() -> None:
    jobs = [["model.num_slots=4", f"seed={seed}"] for seed in (0, 1)]
    selection = select_jobs(jobs)
    lists = select(["model.num_slots=4,5", "seed=0,1"]).specs[:2]
    assert [(s.id, s.row, s.seed) for s in selection.specs] == [(s.id, s.row, s.seed) for s in lists]
    assert selection.arguments == ("model.num_slots=4", "seed=0", "seed=1")


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_refused_as_training_refuses_it(seed: int, declare, capsys) -> None:
    with pytest.raises(UserError) as refused:
        check(compose([f"seed={seed}"]))
    assert main(["plan", f"seed=0,{seed}"]) == 2
    assert capsys.readouterr().err == f"{refused.value}\n"
    assert main(["plan", "trio", declare(), f"seed={seed}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(refused.value) in error


def test_a_config_that_interpolates_its_seed_is_composed_per_seed() -> None:
    specs = select(["dataset.source.seed=${seed}", "seed=0,1"]).specs
    assert [s.config.dataset.source["seed"] for s in specs] == [0, 1]


@pytest.mark.parametrize(
    "value", ["a b", "it's", "null", "1.5", "x,y", "", "back\\slash", "a/b", "[x]", "üml"]
)
def test_strings_survive_the_grammar_of_overrides(value: str) -> None:
    config = compose([f"runtime.root={in_grammar(value)}"])
    assert config["runtime"]["root"] == value


def test_values_in_the_grammar() -> None:
    assert in_grammar([1, None, True, "a b"]) == '[1,null,true,"a b"]'
    assert in_grammar({}) == "{}"


def test_plan_lists_and_counts_and_changes_nothing(declare, finish, tmp_path: Path, capsys) -> None:
    root = tmp_path / "results"
    arguments = ["trio", declare(), f"runtime.root={root}"]
    assert main(["plan", *arguments]) == 0
    assert not root.exists()
    specs = select(arguments).specs
    finish(specs[0], root, video_mbo=0.5)
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(["plan", *arguments]) == 0
    out = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    assert "6 runs: 1 done, 5 new" in out
    assert all(spec.id in out for spec in specs)


def test_missing_data_and_weights_are_warnings(tmp_path: Path, capsys) -> None:
    arguments = ["dataset=movi_c", "backbone=dinov2_s14", "seed=0,1", f"runtime.data_root={tmp_path}/d"]
    assert main(["plan", *arguments, f"runtime.weights_root={tmp_path}/w"]) == 0
    out = capsys.readouterr().out
    assert out.count("warning:") == 2
    assert f"{tmp_path}/d/movi_c" in out
    assert f"{tmp_path}/w/vit_small_patch14_dinov2.lvd142m.safetensors" in out


MISTAKES = {
    "rows: {a: {}}\nseeds: [0]\nmetrics: [m]\ntypo: 1": "typo: unknown key, choose from title",
    "seeds: [0]\nmetrics: [m]": "rows: missing",
    "rows: {a: {}}\nseeds: []\nmetrics: [m]": "seeds: missing or empty",
    "rows: {a: {}}\nseeds: [x]\nmetrics: [m]": "expected a list of whole numbers",
    "rows: {a: {}}\nseeds: [0, 0]\nmetrics: [m]": "stands twice",
    "rows: {a: {}, a: {}}\nseeds: [0]\nmetrics: [m]": "'a' stands twice",
    "rows: {a b: {}, a-b: {}}\nseeds: [0]\nmetrics: [m]": "would share the folder name",
    "rows: {a: 3}\nseeds: [0]\nmetrics: [m]": "rows.a: expected a mapping",
    "rows: {a: {}\nseeds": "not valid YAML",
    "rows: {a: {model.num_slot: 3}}\nseeds: [0]\nmetrics: [m]": "row 'a', column 'all': model.num_slot: no",
    "rows: {a: {model.num_slots: 0}}\nseeds: [0]\nmetrics: [m]": ": model.num_slots=0: out of range",
    "rows: {a: {loss: [nope]}}\nseeds: [0]\nmetrics: [m]": "loss=nope: no such choice",
    "rows: {a: {}}\nseeds: [0]\nmetrics: [m]\ntable: {digit: 1}": "digit: unknown key, choose from protocol",
    "rows: {a: {}}\nseeds: [0]\nmetrics: [m]\ntable: {digits: x}": "table.digits=x",
    "rows: {a: {}}\nseeds: [0]\nmetrics: [m]\ntable: {baseline: b}": "no row 'b', choose from a",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_in_a_file_are_one_line_that_names_it(text: str, declare, capsys) -> None:
    assert main(["plan", "trio", declare(text)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "trio.yaml" in error
    assert MISTAKES[text] in error


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nothing_of_this_name"], "choose from .*contrast_scope, demo"),
        (["demo", "contrast_scope"], "choose one ablation"),
        ([], "no selector"),
        (["seed=x"], "expected whole numbers"),
        (["demo", "model.num_slots=1,2"], "only seed takes a list"),
        (["experiment=nope"], "no such choice"),
        (["--rows"], "not an override"),
        (["project=/nonexistent", "demo"], "no such folder"),
    ],
)
def test_mistakes_in_a_selector(arguments: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        select(arguments)
