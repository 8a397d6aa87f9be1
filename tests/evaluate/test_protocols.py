"""Each protocol of conf/eval/protocol: what distinguishes it, in numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from einops import rearrange
from made_up import MadeUp, Videos, subject_of
from torch import nn

from vocl import assemble
from vocl.config.compose import composed
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.interface import Grid, Report, Segments

PROTOCOLS = (
    *("davis2017", "interpreter", "randsfq", "savi", "slotcontrast", "slotcurri", "smtc", "solv"),
    *("videosaur", "videosaur_clips", "vocl"),
)


class Told(nn.Module):
    """Answers with given label maps t h w of `slots` slots, whatever it sees; notes where it starts anew."""

    def __init__(self, found: dict[str, np.ndarray], slots: int) -> None:
        super().__init__()
        self.found, self.slots, self.starts = found, slots, []

    def segment(self, clip, options, carry=None):
        frames = clip.frames[0]
        if carry is None:
            self.starts.append(int(frames[0]))
        labels = torch.from_numpy(self.found[clip.names[0]])[frames].long()
        masks = nn.functional.one_hot(labels, self.slots).float()
        return Segments(rearrange(masks, "t h w k -> 1 t k (h w)"), Grid(*labels.shape[1:]), carry=True)


def scored(
    name: str, true, found, *overrides: str, slots: int = 6, truths=None, size=(24, 32), kind="objects"
) -> Report:
    """What the evaluation `kind` under protocol `name` says of videos `true` (t h w) segmented as `found`."""
    words = [f"eval/protocol@eval.{kind}.protocol={name}", *overrides]
    evaluation = assemble.make_evaluation(composed([f"eval=[{kind}]", *words]), kind)
    videos = [MadeUp(f"v{i}", labels) for i, labels in enumerate(true)]
    model = Told({f"v{i}": labels for i, labels in enumerate(found)}, slots)
    return evaluation.run(replace(subject_of(model, Videos(videos, truths), size_px=list(size))))


def stripes(*frames: dict[int, slice], size=(24, 32)) -> np.ndarray:
    """Label maps t h w: label l fills the columns `frames[t][l]`; 0 elsewhere."""
    out = np.zeros((len(frames), *size), np.uint8)
    for t, columns in enumerate(frames):
        for label, where in columns.items():
            out[t, :, where] = label
    return out


def overlapping() -> Truth:
    """One frame: object 1 in columns 0 to 7, object 2 in columns 4 to 11."""
    one, two = (Truth.from_labels(stripes({1: slice(a, a + 8)})) for a in (0, 4))
    return Truth(one.size, 1, (one.objects[0], two.objects[0]), one.void)


TWO = {1: slice(0, 8), 2: slice(16, 24)}  # two objects
HALVES = {1: slice(0, 4), 2: slice(4, 8), 3: slice(16, 20), 4: slice(20, 24)}  # each in two slots
EXCHANGED = {2: slice(0, 8), 1: slice(16, 24)}


def test_these_are_the_protocols():
    from vocl.config.compose import group_choices

    assert tuple(sorted(group_choices("eval/protocol", None))) == PROTOCOLS


def test_vocl_leaves_out_points_of_several_owners_and_what_is_undefined():
    found = stripes({1: slice(0, 6), 2: slice(8, 12)}, size=(24, 32))
    truths = {"v0": overlapping()}
    report = scored("vocl", [stripes({})], [found], truths=truths)
    assert report.rows[0]["num_contested_points"] == 24 * 4
    assert report.metrics["video_mbo"] == 1  # columns 0 to 3 and 8 to 11 have one owner each
    painted = scored("savi", [stripes({})], [found], truths=truths).metrics
    assert painted["video_mbo"] == pytest.approx((4 / 6 + 4 / 8) / 2)  # columns 4 to 11 are the second's
    # one slot for all of two objects: index 0; the three frames without an object are worth nothing
    true = stripes(TWO, {}, {}, {})
    blind = stripes({}, {}, {}, {})
    assert scored("vocl", [true], [blind]).metrics["image_fg_ari"] == 0


@pytest.mark.parametrize("name", ["slotcontrast", "slotcurri", "videosaur"])
def test_slotcontrast_counts_an_empty_frame_as_one_and_refuses_overlap(name):
    true, blind = stripes(TWO, {}, {}, {}), stripes({}, {}, {}, {})
    report = scored(name, [true], [blind])
    assert report.metrics["image_fg_ari"] == 3 / 4
    assert report.rows[0]["num_empty_frames"] == 3
    with pytest.raises(UserError, match="objects overlap"):
        scored(name, [stripes({})], [stripes({})], truths={"v0": overlapping()})


def test_slotcurri_stands_in_slotcontrasts_column():
    true = stripes(TWO)
    assert scored("slotcurri", [true], [true]).protocol == "slotcontrast"
    assert scored("videosaur", [true], [true]).protocol == "videosaur"


def test_videosaurs_clips_are_videos_of_their_own():
    true = stripes(*[TWO] * 13)
    found = stripes(*[TWO] * 6, *[EXCHANGED] * 7)  # exchanged where the second clip begins
    whole, clips = (scored(name, [true], [found]) for name in ("videosaur", "videosaur_clips"))
    assert whole.rows[0]["num_frames"] == 13 and whole.metrics["video_fg_ari"] < 0.1
    assert clips.rows[0]["num_frames"] == 12 and clips.metrics["video_fg_ari"] == 1
    assert whole.rows[0]["num_slot_switch_rate_chances"] == 24
    assert clips.rows[0]["num_slot_switch_rate_chances"] == 20
    assert clips.metrics["slot_switch_rate"] == 0 and whole.metrics["slot_switch_rate"] == 2 / 24
    model = Told({"v0": found}, 6)
    evaluation = assemble.make_evaluation(
        composed(["eval=[objects]", "eval/protocol@eval.objects.protocol=videosaur_clips"]), "objects"
    )
    evaluation.run(subject_of(model, Videos([MadeUp("v0", true)])))
    assert model.starts == [0, 6]
    with pytest.raises(UserError, match=r"no object to score in any of 1 videos .* \(1 of them are shorter"):
        scored("videosaur_clips", [true[:5]], [true[:5]])


def test_savi_counts_a_whole_video_without_foreground_as_one():
    empty, true = stripes({}, {}), stripes(TWO, TWO)
    found = stripes(TWO, EXCHANGED)
    # 192 points of each object and slot in each frame: every object half in either slot
    pairs = [n * (n - 1) for n in (4 * 192, 2 * 192, 192)]  # all, of an object or slot, of a cell
    chance = (2 * pairs[1]) ** 2 / pairs[0]
    index = (4 * pairs[2] - chance) / (2 * pairs[1] - chance)
    one = scored("savi", [empty, true], [stripes({}, {}), found]).metrics
    skipped = scored("vocl", [empty, true], [stripes({}, {}), found]).metrics
    assert one["video_fg_ari"] == pytest.approx((1 + index) / 2)
    assert skipped["video_fg_ari"] == pytest.approx(index) and index < 0


def test_solv_names_segments_by_the_objects_of_the_first_frame():
    true, found = stripes(TWO), stripes(HALVES)
    n, half = 192, 96
    pairs = {x: x * (x - 1) for x in (n, half, 2 * n)}

    def index(cells: list[int], columns: list[int]) -> float:
        same, slots, every = (sum(x * (x - 1) for x in part) for part in (cells, columns, [2 * n]))
        chance = 2 * pairs[n] * slots / every
        return (same - chance) / ((2 * pairs[n] + slots) / 2 - chance)

    raw = index([half] * 4, [half] * 4)
    matched = index([half] * 4, [half, half, n])  # the two that are left over are one
    assert scored("interpreter", [true], [found]).metrics["image_fg_ari"] == pytest.approx(raw)
    assert scored("solv", [true], [found]).metrics["image_fg_ari"] == pytest.approx(matched)

    late = stripes({1: slice(0, 8)}, TWO)  # the second object comes later: it is background
    first, every = (scored(name, [late], [late]) for name in ("solv", "vocl"))
    assert (first.rows[0]["num_objects"], every.rows[0]["num_objects"]) == (1, 2)
    assert first.metrics["video_miou_frame_avg"] == 1


def test_interpreter_scores_at_the_size_of_its_input():
    true = np.kron(stripes(TWO), np.ones((1, 2, 2), np.uint8))  # 48 x 64
    true[0, 0, 40] = 3  # one pixel, that no pixel of the input is nearest to
    found = stripes(TWO)
    at_input, at_truth = (scored(name, [true], [found]) for name in ("interpreter", "vocl"))
    assert (at_input.rows[0]["num_objects"], at_truth.rows[0]["num_objects"]) == (2, 3)
    assert at_input.metrics["image_mbo"] == 1 and at_truth.metrics["image_mbo"] < 0.7


def test_smtc_lets_identity_go_free_and_davis_does_not():
    true, found = stripes(*[TWO] * 4), stripes(TWO, TWO, EXCHANGED, EXCHANGED)
    free, kept = (scored(name, [true], [found]).metrics for name in ("smtc", "davis2017"))
    assert {name: free[name] for name in ("jf", "j_mean", "f_mean")} == dict.fromkeys(
        ("jf", "j_mean", "f_mean"), 1
    )
    assert free["video_miou_frame_avg"] == 1 and kept["video_miou_frame_avg"] == 0.5
    assert kept["j_mean"] == kept["f_mean"] == kept["j_recall"] == 0.5


def test_davis_counts_a_frame_where_object_and_proposal_are_absent_as_one():
    true, found = stripes({1: slice(0, 8)}, {}), stripes({1: slice(0, 4)}, {})
    davis, vocl = (scored(name, [true], [found]).metrics for name in ("davis2017", "vocl"))
    assert davis["j_mean"] == davis["video_miou_frame_avg"] == 0.75
    assert vocl["video_miou_frame_avg"] == 0.5 and "j_mean" not in vocl
    void = true.copy()
    void[0, :, 4:8] = 255  # the half that is missed does not count
    assert scored("davis2017", [void], [found]).metrics["j_mean"] == 1


def test_randsfq_counts_the_background_at_224_pixels_and_is_for_conditional_models():
    true, found = stripes({1: slice(0, 8)}, size=(28, 28)), stripes({1: slice(0, 4)}, size=(28, 28))
    with pytest.raises(UserError, match=r"conditional=true: protocol randsfq scores models that start"):
        scored("randsfq", [true], [found], size=(28, 28))
    words = ["experiment=savi/synthetic_boxes", "eval=[objects]"]
    words += ["eval/protocol@eval.objects.protocol=randsfq"]
    assert composed(words).eval["objects"].part["protocol"]["conditional"]
    anyhow = "eval.objects.protocol.conditional=false"
    counted = scored("randsfq", [true], [found], anyhow, size=(28, 28))
    ignored = scored("vocl", [true], [found], size=(28, 28))
    assert counted.metrics["video_mbo"] == pytest.approx((4 / 8 + 20 / 24) / 2)
    assert ignored.metrics["video_mbo"] == pytest.approx(4 / 8)
    assert counted.metrics["video_miou_volume"] == pytest.approx((4 / 8 + 20 / 24) / 2)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_truth_itself_is_perfect_by_every_protocol(name):
    true = stripes(*[TWO] * 6)
    metrics = scored(name, [true], [true], *CONDITIONAL.get(name, ())).metrics
    names = [f"{level}_{score}" for level in ("image", "video") for score in ("fg_ari", "mbo", "corloc")]
    names += ["video_miou_volume", "video_miou_frame_avg", "video_mbo_frame_avg", "image_mbo_at_1_to_5"]
    assert {name: metrics[name] for name in names} == dict.fromkeys(names, 1)


CONDITIONAL = {"randsfq": ("eval.objects.protocol.conditional=false",)}


def test_tracking_adds_its_scores_to_those_of_discovery():
    pytest.importorskip("trackeval", reason="TrackEval is an extra: pip install 'vocl[tracking]'")
    true, found = stripes(*[TWO] * 4), stripes(TWO, TWO, EXCHANGED, EXCHANGED)
    report = scored("davis2017", [true, true], [true, found], kind="tracking")
    assert report.rows[0]["hota"] == 1 and report.rows[0]["num_switches"] == 0
    assert report.rows[1]["num_switches"] == 2 and report.rows[1]["deta"] == 1
    assert report.metrics["switches_per_object_frame"] == 2 / 16
    assert report.rows[1]["idr"] == 0.5 and report.metrics["idr"] == 0.75
    assert report.metrics["j_mean"] == 0.75  # contours go with it
    plain = scored("davis2017", [true, true], [true, found], kind="discovery").metrics
    assert {name: report.metrics[name] for name in plain} == plain


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("resolution=0", ">= 1"),
        ("resolution=screen", "choose from truth, input"),
        ("background=yes", "choose from ignored, object"),
        ("clip_frames=0", ">= 1"),
        ("labels=renamed", "choose from raw, matched"),
        ("backgruond=object", "background"),
    ],
)
def test_a_wrong_setting_is_told(setting, said):
    with pytest.raises(UserError, match=said):
        composed(["eval=[objects]", f"eval.objects.protocol.{setting}"])
