from __future__ import annotations

from collections.abc import Callable

import pytest

from launch.cli import main
from launch.selection.plan import Spec, select
from launch.submission.job_config import freeze
from vocl.config.check import check
from vocl.config.cluster import LocalCluster, SlurmCluster
from vocl.config.compose import compose
from vocl.config.sections import WarmStart
from vocl.rundir.of_config import cell_of
from vocl.rundir.run_dir import RunDir

TAIL = "\nseeds: [0, 1]\nmetrics: [video_mbo]\n"


@pytest.fixture
def specs(declare: Callable[..., str]) -> Callable[..., list[Spec]]:
    """The specs of an ablation file, seeds and metrics added."""
    return lambda text, *extras: select(["trio", declare(text + TAIL), *extras]).specs


def labels(specs: list[Spec]) -> list[str]:
    return list(dict.fromkeys(spec.row for spec in specs))


def test_a_grid_is_every_combination_and_each_equals_a_composition_of_its_own(declare) -> None:
    project = declare("grid: {model.num_slots: [3, 4], optim.lr: [0.01, 0.02]}" + TAIL)
    specs = select(["trio", project]).specs
    assert labels(specs) == [f"num_slots={n}, lr={lr}" for n in (3, 4) for lr in (0.01, 0.02)]
    assert len({spec.id for spec in specs}) == 8
    for spec in specs:
        overrides = spec.row.replace("num_slots", "model.num_slots").replace("lr", "optim.lr").split(", ")
        alone = check(compose([*overrides, f"seed={spec.seed}", project]))
        assert (spec.config, spec.id) == (alone, alone.run_id)


def test_rows_multiply_with_the_grid_of_the_file(specs) -> None:
    found = specs("rows: {a: {}, b: {train.batch: 4}}\ngrid: {model.num_slots: [3, 4]}")
    assert labels(found) == ["a, num_slots=3", "a, num_slots=4", "b, num_slots=3", "b, num_slots=4"]
    assert [(s.config.train.batch, s.config.model["num_slots"]) for s in found[-2:]] == [(4, 4)] * 2


def test_zip_pairs_and_lists_name_their_cells(specs) -> None:
    found = specs("zip: {train.steps: [5, 6], train.batch: [2, 3]}")
    assert labels(found) == ["steps=5, batch=2", "steps=6, batch=3"]
    found = specs("list: [{train.steps: 5}, {label: long, train: {steps: 9}}]")
    assert [(s.row, s.config.train.steps) for s in found[::2]] == [("steps=5", 5), ("long", 9)]


def test_products_nest(specs) -> None:
    text = """
rows:
  plain: {}
  tuned:
    train.steps: 5
    list:
      - {}
      - {label: slow, grid: {optim.lr: [0.01, 0.02]}, zip: {train.steps: [6, 7]}}
    grid: {model.num_slots: [3, 4]}
"""
    assert labels(specs(text)) == [
        "plain",
        "tuned, num_slots=3",
        "tuned, num_slots=4",
        *(
            f"tuned, slow, lr={lr}, steps={steps}, num_slots={n}"
            for lr in (0.01, 0.02)
            for steps in (6, 7)
            for n in (3, 4)
        ),
    ]


def test_labels_of_lists_and_of_keys_that_end_alike(specs) -> None:
    text = "grid: {loss: [[feature_mse], [feature_mse, slot_contrast]], dataset.size_px: [[56, 56]]}"
    assert labels(specs(text)) == [
        "loss=feature_mse, size_px=56x56",
        "loss=feature_mse+slot_contrast, size_px=56x56",
    ]
    text = "grid: {loss.slot_contrast.weight: [1, 2], loss.feature_mse.weight: [-1, 1]}"
    assert labels(specs(text))[0] == "loss.slot_contrast.weight=1, loss.feature_mse.weight=-1"


def test_columns_spread_too(specs) -> None:
    found = specs("columns: {few: {grid: {model.num_slots: [3, 4]}}}\nrows: {a: {}}")
    assert [(s.column, s.config.model["num_slots"]) for s in found[::2]] == [
        ("few, num_slots=3", 3),
        ("few, num_slots=4", 4),
    ]


def test_exclude_drops_what_matches_all_of_a_pattern(specs) -> None:
    text = """
grid: {model.num_slots: [3, 4], optim.lr: [0.01, 0.02]}
rows: {a: {}, b: {}}
exclude:
  - {row: a, model.num_slots: 3.0, optim.lr: 0.01}
  - {row: "b, num_slots=4, lr=0.01"}
  - {row: [a, b], seed: 1, optim: {lr: 0.02}}
"""
    found = specs(text)
    assert [(s.row, s.seed) for s in found] == [
        ("a, num_slots=3, lr=0.02", 0),
        ("a, num_slots=4, lr=0.01", 0),
        ("a, num_slots=4, lr=0.01", 1),
        ("a, num_slots=4, lr=0.02", 0),
        ("b, num_slots=3, lr=0.01", 0),
        ("b, num_slots=3, lr=0.01", 1),
        ("b, num_slots=3, lr=0.02", 0),
        ("b, num_slots=4, lr=0.02", 0),
    ]
    assert {s.seed for s in specs(text, "seed=7")} == {7}  # the file's own seeds decide what is a mistake


def test_resources_go_to_the_cluster_and_not_into_the_id(specs) -> None:
    text = "rows: {a: {}, b: {resources: {slots: 5}, list: [{label: x, resources: {slots: 6}}, {label: y}]}}"
    found = specs(text)
    assert [(s.row, s.config.cluster.slots) for s in found[::2]] == [("a", 1), ("b, x", 6), ("b, y", 5)]
    assert len({spec.id for spec in found}) == 2
    assert {s.config.cluster.slots for s in specs(text, "cluster.slots=3")} == {3}


def test_a_table_asks_of_a_cluster_what_that_kind_of_cluster_has(specs) -> None:
    text = "rows: {a: {resources: {gpus: 2, mem_gb: 3, slots: 5}}}"
    here, slurm = specs(text)[0].config, specs(text, "cluster=slurm", "cluster.mem_gb=4")[0].config
    assert isinstance(here.cluster, LocalCluster) and here.cluster.slots == 5
    assert isinstance(slurm.cluster, SlurmCluster) and slurm.run_id == here.run_id
    assert (slurm.cluster.gpus, slurm.cluster.mem_gb) == (2, 4.0)  # and what the command line says wins


WARM = """
columns: {c: {}, d: {train.batch: 4}}
rows:
  long: {train.steps: 9, warm_start: {row: short, take: ["corrector*", "*"]}}
  short: {train.steps: 5}
  longer: {train.steps: 20, warm_start: {row: long, take: ["*"]}}
"""


def test_a_row_starts_from_the_run_of_another_with_its_column_and_seed(specs) -> None:
    found = specs(WARM)
    by_place = {(s.row, s.column, s.seed): s for s in found}
    assert [s.row for s in found[:6]] == ["long", "long", "short", "short", "longer", "longer"]
    for (row, column, seed), spec in by_place.items():
        source = by_place.get(({"long": "short", "longer": "long"}.get(row), column, seed))
        assert spec.after == (source and source.id)
        take = {"long": ["corrector*", "*"], "longer": ["*"]}.get(row)
        assert spec.config.warm_start == (source and WarmStart(run=source.id, take=take))
        assert spec.id == spec.config.run_id
    assert len({spec.id for spec in found}) == 12


def test_the_seeds_of_a_row_that_starts_from_another_are_one_cell(specs, tmp_path) -> None:
    found = specs(WARM, f"runtime.root={tmp_path}")
    cells = {(spec.row, spec.column, spec.cell) for spec in found}
    assert len(cells) == len({cell for _, _, cell in cells}) == 6
    for spec in found:
        freeze(RunDir(tmp_path / "runs" / spec.id), spec)
    assert all(cell_of(spec.content) == spec.cell for spec in found)


def test_a_warm_start_meets_its_own_point_of_the_grid(specs) -> None:
    found = specs(WARM + "grid: {model.num_slots: [3, 4]}")
    for spec in found:
        if spec.after:
            (source,) = {s.row: s for s in found if s.id == spec.after}.values()
            assert source.row.partition(", ")[2] == spec.row.partition(", ")[2]


def test_a_warm_start_of_the_command_line_wins(specs) -> None:
    assert {spec.after for spec in specs(WARM, "warm_start=null")} == {None}
    text = "rows: {a: {warm_start: {run: '0123456789', take: ['*']}}}"
    assert specs(text)[0].config.warm_start == WarmStart(run="0123456789", take=["*"])


MISTAKES = {
    "grid: {model.num_slots: 3}": "trio.yaml: grid.model.num_slots=3: expected a list of values",
    "grid: {model.num_slots: []}": "expected a list of values",
    "zip: {train.steps: [1], train.batch: [1, 2]}": "train.steps has 1, train.batch has 2",
    "list: {a: 1}": "trio.yaml: list: expected a list of mappings",
    "rows: {a: {list: [3]}}": "rows.a.list[0]: expected a mapping",
    "grid: {seed.x: [1]}\nbase: {grid: {}}": "base: grid: belongs to the top",
    "grid: {train.steps: [1]}\nzip: {train.steps: [1]}": "train.steps: set twice",
    "rows: {a: {train.steps: 3}}\ngrid: {train.steps: [1]}": "rows.a: train.steps: set twice",
    "list: [{train.steps: 1}, {train.steps: 1}]": "'steps=1' stands twice",
    "rows: {a: {}}\nexclude: [{row: b}]": "exclude[0]: matches no cell",
    "rows: {a: {}}\nexclude: [{}]": "exclude[0]: empty",
    "rows: {a: {}}\nexclude: 3": "exclude: expected a list",
    "rows: {a: {seed: 5}}": "rows.a: seed: would be passed over; the file's `seeds` say it",
    "rows: {a: {}}\nbase: {project: mine}": "base: project: would be passed over; give it",
    "grid: {seed: [5]}\nrows: {a: {}}": "seed: would be passed over",
    "rows: {a: {resources: 3}}": "rows.a.resources: expected a mapping",
    "rows: {a: {resources: {gpu_count: 2}}}": "cluster.gpu_count: no such key, choose from cluster.kind",
    "rows: {a: {warm_start: {row: b, take: ['*']}}}": "warm_start.row=b: no such row, choose from",
    "rows: {a: {warm_start: {row: a, take: ['*']}}}": "in a circle: a from a",
    "rows: {a: {warm_start: {row: b, take: [x]}}, b: {warm_start: {row: a, take: [x]}}}": "a from b from a",
    "rows: {a: {warm_start: {row: b}}, b: {}}": "take=None: expected a list of globs",
    "rows: {a: {warm_start: {row: b, taek: []}}, b: {}}": "taek: unknown key, choose from row, take",
    "columns: {c: {warm_start: {row: a, take: [x]}}}\nrows: {a: {}}": "only a row can start from another",
    "rows: {a: {}, b: {warm_start: {row: a, take: [x]}}}\nexclude: [{row: a, seed: 1}]": "no run of seed 1",
    "rows: {a: {gird: {train.steps: [1]}}}": "gird.train.steps: no such key",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_mistakes_are_one_line_that_names_the_place(text: str, declare, capsys) -> None:
    assert main(["plan", "trio", declare(text + TAIL)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "trio.yaml" in error
    assert MISTAKES[text] in error


def test_a_table_leaves_excluded_places_empty(declare, finish, tmp_path, capsys) -> None:
    text = "grid: {model.num_slots: [3, 4]}\ncolumns: {c: {}, d: {train.batch: 4}}\n"
    text += "exclude: [{model.num_slots: 3, column: d}, {model.num_slots: 4, seed: 1}]\n"
    text += "table: {baseline: num_slots=3}"
    arguments = ["trio", declare(text + TAIL), f"runtime.root={tmp_path}/r"]
    for spec in select(arguments).specs:
        finish(spec, tmp_path / "r", video_mbo=0.1 * spec.config.model["num_slots"])
    assert main(["table", *arguments]) == 0
    lines = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line[:1] == "|"]
    cells = {name.strip(): [text.strip() for text in rest] for name, *rest in lines}
    assert cells["num_slots=3"] == ["30.0 ± 0.0 (2)", "", "", ""]
    assert cells["num_slots=4"] == ["**40.0** (1)", "+10.0", "**40.0** (1)", ""]
