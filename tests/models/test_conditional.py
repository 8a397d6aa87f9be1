"""SAVi with boxes of the first frame, and with targets that are annotations."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from running import TINY, result, same

from vocl import assemble, run
from vocl.config.check import check
from vocl.config.compose import composed
from vocl.data.feed import Feed, whole_video
from vocl.data.served import Served
from vocl.errors import UserError
from vocl.interface import Clip, Context
from vocl.nn.slot_init import FromBoxes

FLOW = {"_target_": "vocl.nn.targets.Flow", "scale_px": 2.0}
DEPTH = {"_target_": "vocl.nn.targets.Depth", "scale": 1.0}


TINY_SAVI = (
    "experiment=savi/synthetic_boxes",
    *(o for o in TINY if o.split(".")[0] in ("train", "dataset", "runtime")),
    "model.num_slots=3",
    "backbone.channels=8",
    "model.adapter.hidden_dim=8",
    "model.decoder.channels=8",
    "model.decoder.num_upsample=1",
)


def savi(root, **model):
    """A checked config with `model` for settings of the model."""
    config = composed([*TINY_SAVI, f"runtime.root={root}"])
    return replace(config, model=config.model | model)


@pytest.mark.parametrize("target", [FLOW, DEPTH, "rgb"])
def test_a_run_with_boxes_and_a_target_trains_and_is_scored(tmp_path, target):
    config = savi(tmp_path, target=target)
    assert run.run(config) == 0
    assert result(config)["evals"]["discovery"]["num_videos"] == 2


def test_the_clips_of_training_bring_what_is_read_and_those_of_a_test_what_the_model_reads(tmp_path):
    config = savi(tmp_path, target=FLOW)
    model = assemble.make_model(config, pretrained=False)
    training = assemble.clip_needs(config, model, training=True)
    assert training == {"boxes", "flow"} and assemble.clip_needs(config, model, training=False) == {"boxes"}
    dataset = assemble.make_dataset(config)
    clip = Feed(Served(assemble.make_source(config, "train"), training), dataset, 0, 4, 2).batch(0)
    output = model(clip)
    torch.testing.assert_close(output.target, clip.flow / 2.0)
    assert output.recon.shape == clip.flow.shape == (4, 2, 2, 16, 16)
    video = Served(assemble.make_source(config, "validation"), {"boxes"})[0]
    clip = whole_video(video, dataset, 0, 4, 0)
    assert clip.boxes.shape[:2] == (1, 4) and clip.flow is None


def test_slots_begin_as_the_boxes_of_the_first_frame(tmp_path):
    torch.manual_seed(0)
    initializer = FromBoxes(4, 6, hidden_dim=5, frame_px=[10, 20])
    boxes = torch.zeros(2, 3, 4, 5)
    boxes[0, 0, 1] = torch.tensor([2.0, 1.0, 12.0, 6.0, 1.0])
    boxes[0, 0, 3] = torch.tensor([0.0, 0.0, 20.0, 5.0, 1.0])
    boxes[0, 1:] = 7.0  # later frames do not count
    boxes[1, 0] = torch.tensor([1.0, 1.0, 2.0, 2.0, 1.0])  # more boxes than slots
    clip = replace(_clip(), boxes=boxes)
    slots = initializer(clip.key, context=Context(clip=clip))
    shares = [[0.0, 0.0, 1.0, 1.0], [0.1, 0.1, 0.6, 0.6], [0.0, 0.0, 1.0, 0.5], [0.0] * 4]
    torch.testing.assert_close(slots[0], initializer.mlp(torch.tensor(shares)))
    assert slots.shape == (2, 4, 6) and torch.equal(slots[1, 1], slots[1, 3])
    with pytest.raises(UserError, match=r"needs boxes of the first frame"):
        initializer(clip.key, context=Context(clip=_clip()))


def _clip():
    return Clip(torch.zeros(2, 3, 3, 10, 20), torch.ones(2, 3, dtype=torch.bool), torch.arange(2), ("a", "b"))


def test_a_plan_refuses_what_the_data_does_not_give(tmp_path):
    config = savi(tmp_path, target=FLOW).content
    config["dataset"]["source"] = composed(["dataset=davis2016"]).dataset.source
    with pytest.raises(UserError, match=r"Davis2016: gives no flow, which model\.target needs") as error:
        check(config)
    assert str(error.value).endswith("it gives boxes, masks")
    config["model"]["target"] = "rgb"
    check(config)
    config["eval"]["discovery"]["dataset"] = copy.deepcopy(config["dataset"])
    config["model"]["target"], config["dataset"] = FLOW, savi(tmp_path).content["dataset"]
    check(config)  # the target is read in training alone


def test_reversal_and_flips_reach_the_target(tmp_path):
    """Training on mirrored, reversed clips and on their originals sees mirrored, negated flow."""
    config = savi(tmp_path, target=FLOW)
    source = Served(assemble.make_source(config, "train"), {"flow"})
    dataset = replace(assemble.make_dataset(config), flip=0.0, reverse=0.0)
    plain = Feed(source, dataset, 0, 6, 2).batch(0)
    turned = Feed(source, replace(dataset, flip=1.0, reverse=1.0), 0, 6, 2).batch(0)
    back = turned.flow.flip(1).flip(-1) * torch.tensor([1.0, -1.0]).view(2, 1, 1)
    same(plain.flow + 0.0, back + 0.0)
