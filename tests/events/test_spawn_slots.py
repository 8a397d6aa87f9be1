"""Where new slots come from: errors, counts and offsets, and the schedule that asks for them."""

from __future__ import annotations

import pytest
import torch
from running import tiny

from vocl import assemble
from vocl.config.compose import compose, composed
from vocl.config.resolvers import slot_count
from vocl.errors import UserError
from vocl.events.spawn_slots import SpawnSlots, allot, slot_error
from vocl.interface import Grid, Output

RELEASE = {"beta": 0.2, "nn_scope": "all", "nn_metric": "cosine", "norm_scope": "all"}
PAPER = {"beta": 0.2, "nn_scope": "active", "nn_metric": "euclidean", "norm_scope": "active"}


def event(first=2, total=5, seed=0, **rules):
    return SpawnSlots(first, total, 10, seed, **RELEASE | rules)


def drawn(n=6, d=16, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * d**-0.5


def directions(m, d=16):
    return torch.nn.functional.normalize(drawn(m, d, seed=9), dim=-1)


# -------------------------------------------------------------------------------- counts of children


@pytest.mark.parametrize(
    ("error", "num_new", "children"),
    [
        ((3.0, 1.0), 1, [1, 0]),
        ((0.6, 0.4), 3, [2, 1]),
        ((0.5, 0.3, 0.2), 4, [2, 1, 1]),
        ((0.7, 0.2, 0.1), 4, [3, 1, 0]),
        ((1.0, 1.0, 1.0), 4, [2, 1, 1]),  # a tie goes to the lower index
        ((0.0, 0.0), 3, [2, 1]),  # nothing to go by
        ((5.0,), 3, [3]),
    ],
)
def test_children_by_largest_remainders(error, num_new, children):
    assert allot(torch.tensor(error), num_new) == children


def test_the_error_of_a_slot_is_weighted_by_its_mask_and_not_divided_by_it():
    recon, target = torch.zeros(1, 1, 2, 3), torch.tensor([[[[1.0, 1, 1], [2, 2, 2]]]])
    masks = torch.tensor([[[[1.0, 0.25], [0.0, 0.75]]]])  # b t k n
    output = Output(slots=masks, attn=masks, grid=Grid(1, 2), recon=recon, target=target, masks=masks)
    assert slot_error(output).tolist() == [(1 + 0.25 * 4) / 2, 0.75 * 4 / 2]


# ------------------------------------------------------------------------------------------ children


@pytest.mark.parametrize("rules", [RELEASE, PAPER], ids=["release", "paper"])
def test_parents_and_later_rows_are_untouched(rules):
    before = drawn()
    after = event(first=2, total=4, **rules).spawn(before, [1, 1], directions(2))
    assert torch.equal(after[[0, 1, 4, 5]], before[[0, 1, 4, 5]])
    assert not torch.isclose(after[2:4], before[2:4]).any()
    assert torch.equal(before, drawn())  # the argument itself is left alone


def test_the_length_of_an_offset_in_the_paper():
    slots, norms = drawn(), drawn().norm(dim=1)
    children = event(first=3, total=6, **PAPER).spawn(slots, [0, 1, 2], directions(3))[3:]
    for child, parent in zip(children, (1, 2, 2), strict=True):
        distance = min(float((slots[parent] - slots[i]).norm()) for i in range(3) if i != parent)
        expected = 0.2 * distance * norms[parent] / norms[:3].mean()
        assert float((child - slots[parent]).norm()) == pytest.approx(float(expected), rel=1e-5)


def test_the_length_of_an_offset_in_the_release():
    """The nearest by cosine of all rows; a later parent sees the children of earlier ones."""
    slots = drawn()
    cosine = torch.nn.functional.cosine_similarity(slots[:, None], slots[None], dim=-1).fill_diagonal_(-1)
    after, now = event(first=2, total=5).spawn(slots, [2, 1], directions(3)), slots.clone()
    for parent, rows in ((0, (2, 3)), (1, (4,))):
        distance = (now[parent] - now[cosine[parent].argmax()]).norm()
        expected = 0.2 * distance * now[parent].norm() / now.norm(dim=1).mean()
        for row in rows:
            assert float((after[row] - slots[parent]).norm()) == pytest.approx(float(expected), rel=1e-5)
        now[list(rows)] = after[list(rows)]


@pytest.mark.parametrize("nn_scope", ["active", "all"])
@pytest.mark.parametrize("nn_metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("norm_scope", ["active", "all"])
def test_each_switch_alone_changes_the_children(nn_scope, nn_metric, norm_scope):
    # nearest to slot 0: row 1 by distance, row 2 by cosine among the active; 3 and 4 among all
    slots = torch.tensor([[1.0, 0], [0.6, 0.6], [3.0, 0.5], [0.9, 0.3], [8.0, 0.1], [0.0, 20.0]])
    nearest = {("active", "euclidean"): 1, ("active", "cosine"): 2, ("all", "euclidean"): 3}
    row = nearest.get((nn_scope, nn_metric), 4)
    mean = float((slots[:3] if norm_scope == "active" else slots).norm(dim=1).mean())
    rules = {"nn_scope": nn_scope, "nn_metric": nn_metric, "norm_scope": norm_scope}
    child = event(first=3, total=4, **rules).spawn(slots, [1, 0, 0], torch.tensor([[0.0, 1.0]]))[3]
    assert float((child - slots[0]).norm()) == pytest.approx(
        0.2 * float((slots[0] - slots[row]).norm()) / mean, rel=1e-4
    )


def test_a_single_active_slot_has_its_own_norm_as_distance():
    slots = drawn()
    child = event(first=1, total=2, **PAPER).spawn(slots, [1], directions(1))[1]
    assert float((child - slots[0]).norm()) == pytest.approx(0.2 * float(slots[0].norm()), rel=1e-4)


class Holder(torch.nn.Module):
    """What an event needs of a model."""

    def __init__(self):
        super().__init__()
        self.initializer = torch.nn.Module()
        self.initializer.slots = torch.nn.Parameter(drawn()[None])


def applied(seed=0, error=(1.0, 3.0), global_seed=0):
    model, spawning = Holder(), event(seed=seed)
    spawning.load_state_dict({"error": torch.tensor(error) if error else None})
    torch.manual_seed(global_seed)
    spawning.apply(model, 10)
    return model.initializer.slots.detach()[0]


def test_the_noise_is_a_function_of_the_seed_and_the_step():
    assert torch.equal(applied(), applied(global_seed=1))
    assert not torch.equal(applied(), applied(seed=1))
    assert applied(error=None).isfinite().all()  # a stage that begins with the run: no error was seen


# ---------------------------------------------------------------------------------------- the schedule


@pytest.mark.parametrize(
    ("experiment", "counts", "starts"),
    [
        ("movi_c", [2, 5, 11], [0, 10000, 25000]),
        ("movi_e", [2, 7, 15], [0, 30000, 75000]),
        ("ytvis2021", [2, 3, 7], [0, 10000, 25000]),
    ],
)
def test_the_stages_of_the_published_runs(experiment, counts, starts):
    config = composed([f"experiment=slotcurri/{experiment}"])
    curriculum = assemble.make_curriculum(config)
    assert [stage.active_slots for stage in curriculum.stages] == counts
    assert curriculum.starts == starts
    spawns = [event for events in curriculum.events for event in events]
    assert [(s.first, s.total, s.start) for s in spawns] == [
        (counts[0], counts[1], starts[1]),
        (counts[1], counts[2], starts[2]),
    ]
    sigma = (counts[2] - 5) // 2
    assert [slot_count(2, sigma, m) for m in range(3)] == counts


def test_a_count_and_the_formula_are_one_run():
    given = [
        composed(["curriculum=slotcurri", f"curriculum.stages.more.active_slots={v}"])
        for v in ("3", "'${slot_count:2,1,1}'")
    ]
    assert given[0].run_id == given[1].run_id
    assert given[0].run_id != composed(["curriculum=slotcurri_simple"]).run_id


def test_presets_and_the_simple_curriculum(tmp_path):
    def spawn(*overrides):
        return compose(overrides)["curriculum"]["spawn"]

    target = {"_target_": "vocl.events.spawn_slots.SpawnSlots"}
    assert spawn("curriculum=slotcurri") == target | RELEASE
    assert spawn("curriculum=slotcurri", "curriculum/spawn=paper") == target | PAPER
    assert spawn("curriculum=slotcurri_simple") is None
    simple = assemble.make_curriculum(tiny(tmp_path, "curriculum=slotcurri_simple"))
    assert [s.active_slots for s in simple.stages] == [2, 3, 4] and simple.events == [[], [], []]


MORE = "curriculum.stages.more.active_slots"


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["model.num_slots=7", f"{MORE}='${{slot_count:2,9,1}}'"], (f"{MORE}=11", "model.num_slots=7")),
        (["model.num_slots=2"], (f"{MORE}=3", "model.num_slots=2")),
        (["curriculum.stages.few.length=0.2"], ("curriculum.stages", "0.2 + 0.15 + 0.75")),
        (["curriculum.spawn.nn_metric=manhattan"], ("curriculum.spawn.nn_metric", "euclidean, cosine")),
        (["curriculum.spawn.beta=0"], ("curriculum.spawn.beta=0",)),
        (["curriculum/spawn=both"], ("curriculum/spawn=both", "choose from paper, release")),
        ([f"{MORE}='${{slot_count:2,x,1}}'"], (MORE,)),
    ],
)
def test_mistakes_are_refused_by_plan(overrides, parts):
    with pytest.raises(UserError) as error:
        composed(["curriculum=slotcurri", *overrides])
    assert all(part in str(error.value) for part in parts), error.value
