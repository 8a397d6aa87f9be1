"""Finding runs and loading what they trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import yaml

from vocl import assemble
from vocl import config as configs
from vocl.checkpoint import Checkpoint, Checkpoints, State
from vocl.config import Config
from vocl.errors import UserError
from vocl.interface import VideoModel


@dataclass(frozen=True)
class Loaded:
    """A trained model (in eval mode), and the run and checkpoint it comes from."""

    folder: Path
    config: Config
    model: VideoModel
    checkpoint: Checkpoint


def find_run(run: str, root: str) -> Path:
    """The folder of `run`: a folder, or an id (or the unique beginning of one) under `root`."""
    runs = Path(root).expanduser() / "runs"
    for folder in (Path(run).expanduser(), runs / run):
        if (folder / "config.yaml").is_file():
            return folder
    matches = sorted(runs.glob(f"{run}*/config.yaml")) if run and "/" not in run else []
    if len(matches) == 1:
        return matches[0].parent
    if matches:
        raise UserError(f"{run}: several runs begin so: {', '.join(p.parent.name for p in matches)}")
    known = sorted(p.parent.name for p in runs.glob("*/config.yaml"))
    shown = ", ".join(known[:8]) + (f" and {len(known) - 8} more" if len(known) > 8 else "")
    raise UserError(f"{run}: neither a run folder nor a run id in {runs}; there are {shown or 'none'}")


def read_config(folder: Path) -> Config:
    """The config a run was saved with, in today's keys and checked."""
    path = folder / "config.yaml"
    try:
        saved = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    return configs.check(configs.migrate(saved))


def load(run: str, root: str = "results", device: str = "cpu") -> Loaded:
    """Load the model of a run, an id under `root` or a folder, from its newest valid checkpoint."""
    folder = find_run(run, root)
    config = read_config(folder)
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.newest()
    if found is None:
        raise UserError(f"{folder}: has no valid checkpoint yet")
    checkpoint, state = found
    model = assemble.make_model(config, pretrained=False)
    fill(model, state, checkpoints, folder)
    return Loaded(folder, config, model.to(device).eval(), checkpoint)


def fill(model: VideoModel, state: State, checkpoints: Checkpoints, folder: Path) -> None:
    """Put the weights of checkpoint `state`, and the frozen ones it names, into `model`."""
    weights = state["model"] | checkpoints.load_frozen(state["frozen"])
    own = model.state_dict()
    wrong = [n for n in own if n not in weights or weights[n].shape != own[n].shape] + sorted(set(weights) - set(own))
    if wrong:
        raise UserError(f"{folder}: its checkpoint is of another model than its config.yaml says: {', '.join(wrong[:3])}")
    model.load_state_dict(weights)


def pick_device(name: str) -> torch.device:
    """The device that `runtime.device` names; "auto" takes a GPU when there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("runtime.device=cuda: no GPU is visible here, choose from auto, cpu")
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    import os

    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
