"""Loading what runs have trained."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import yaml
from torch import Tensor

from vocl import assemble
from vocl.config.migrate import PLACES
from vocl.config.run_config import RunConfig
from vocl.config.sections import WarmStart
from vocl.errors import UserError
from vocl.interface import VideoModel
from vocl.ops.random import seed_of
from vocl.rundir.checkpoint import Checkpoints
from vocl.rundir.checkpoint_files import CheckpointFile
from vocl.rundir.results_root import ResultsRoot
from vocl.rundir.run_dir import CONFIG, RunDir


@dataclass(frozen=True)
class Loaded:
    """A trained model (in eval mode), and the run and checkpoint it comes from."""

    run: RunDir
    config: RunConfig
    model: VideoModel
    checkpoint: CheckpointFile


def saved_config(run: RunDir, root: str) -> RunConfig:
    """The checked config of `run`, which is used with the results folder `root` now.

    Where the run was trained is no reason to write there: `runtime.root` is the caller's, and weights
    that are not there yet are never downloaded to where the config of a run from elsewhere says.
    """
    config = run.config()
    runtime = replace(config.runtime, root=root)
    if ResultsRoot.of(root).is_foreign(run):
        ours = yaml.safe_load(PLACES["runtime"].read_text())["weights_root"]
        runtime = replace(runtime, weights_root=ours)
    return replace(config, runtime=runtime)


def load(run: str, root: str = "results", device: str | torch.device = "cpu") -> Loaded:
    """Load the model of a run, an id under `root` or a folder, from its newest valid checkpoint."""
    found = ResultsRoot.of(root).find_trusted(run)
    return load_run(found, saved_config(found, root), device)


def load_run(
    run: RunDir, config: RunConfig, device: str | torch.device = "cpu", best: bool = False
) -> Loaded:
    """Load the model of `run`, whose checked config is `config`; `best`: as its best probe found it."""
    checkpoints = Checkpoints(run.checkpoints)
    found = checkpoints.best() if best else checkpoints.newest()
    if found is None and best:
        raise UserError(f"{run}: kept no checkpoint of a best probe; runtime.probe_best=true keeps it")
    if found is None:
        raise UserError(f"{run}: has no valid checkpoint yet")
    checkpoint, state = found
    model = assemble.make_model(config, pretrained=False)
    fill(model, checkpoints.weights(state), run)
    return Loaded(run, config, model.to(device).eval(), checkpoint)


def fill(model: VideoModel, weights: Mapping[str, Tensor], run: RunDir) -> None:
    """Put the weights of a checkpoint of `run` into `model`; refuses those of another model."""
    own = model.state_dict()
    wrong = sorted(set(weights) ^ set(own))
    wrong = wrong or [name for name, tensor in own.items() if tensor.shape != weights[name].shape]
    if wrong:
        raise UserError(
            f"{run}: its checkpoint is of another model than its {CONFIG} says: "
            f"{len(wrong)} weights differ, such as {', '.join(wrong[:3])}"
        )
    model.load_state_dict(weights)


def initial_model(config: RunConfig, device: str | torch.device = "cpu") -> VideoModel:
    """The model of `config` as its training starts: from the seed and its backbone's weights, or from the
    run that it names in `warm_start`."""
    torch.manual_seed(seed_of(config.seed, "weights"))
    model = assemble.make_model(config, pretrained=True)
    if config.warm_start is not None:
        warm_start(model, config.warm_start, config.runtime.root)
    return model.to(device).eval()


def warm_start(model: VideoModel, start: WarmStart, root: str) -> None:
    """Take the weights that match `warm_start.take` from the newest checkpoint of another run, which lies
    in the results folder `root` or where it says."""
    source = ResultsRoot.of(root).find_trusted(start.run)
    checkpoints = Checkpoints(source.checkpoints)
    found = checkpoints.newest()
    if found is None:
        raise UserError(f"warm_start.run={start.run}: has no valid checkpoint")
    weights, own = checkpoints.weights(found[1]), model.state_dict()
    for glob in start.take:
        names = [name for name in weights if fnmatch.fnmatchcase(name, glob)]
        if not names:
            raise UserError(f"warm_start.take: {glob!r} matches no weight of {source}")
        for name in names:
            if name not in own or own[name].shape != weights[name].shape:
                raise UserError(f"warm_start.take: {name} of {source} does not fit this model")
            own[name].copy_(weights[name])


def pick_device(name: str) -> torch.device:
    """The device that `runtime.device` names; "auto" takes a GPU when there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("runtime.device=cuda: no GPU is visible here, choose from auto, cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
