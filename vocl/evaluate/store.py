"""Running the evaluations of a run and keeping what they say beside it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocl import assemble, dist
from vocl import config as configs
from vocl.config import Config
from vocl.files import write_bytes, write_json
from vocl.interface import VideoModel


def evaluate(
    config: Config,
    model: VideoModel,
    checkpoint_digest: str,
    folder: Path,
    device: torch.device,
    advance: Callable[[], Any] = lambda: None,
) -> dict[str, Any]:
    """Run every evaluation of `config["eval"]` and write `<folder>/eval/<eval_id>/`.

    Returns {name: {eval_id, protocol, num_videos, metrics, rows}} with `rows` the path of the
    per-video rows inside `folder`. The seed of the evaluation's own randomness is its option.
    """
    dataset = assemble.make_dataset(config)
    entries = {}
    for name, evaluation in assemble.parts(config, "eval").items():
        settings = config["eval"][name]
        identity = {"run": configs.run_id(config), "checkpoint": checkpoint_digest, "eval": settings}
        evaluation = evaluation()
        source = assemble.make_source(config, evaluation.split)
        eval_id = configs.evaluation_id(identity | {"dataset": config["dataset"]})
        place = folder / "eval" / eval_id
        keep = _keeper(place / "masks") if config["runtime"]["keep_masks"] else None
        report = evaluation.run(model, source, dataset, device, keep, advance)
        entries[name] = {
            "eval_id": eval_id,
            "protocol": report.protocol,
            "num_videos": len(report.rows),
            "metrics": report.metrics,
            "rows": f"eval/{eval_id}/rows.json",
        }
        if dist.rank() == 0:
            write_json(place / "rows.json", report.rows)
            write_json(place / "report.json", identity | entries[name])
    return entries


def _keeper(folder: Path) -> Callable[[str, np.ndarray], None]:
    """Writes soft masks (uint8 t k n) as <video>.npz; names of videos may hold slashes."""

    def keep(name: str, masks: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, masks=masks)
        safe = name.replace("/", "__")
        if len(safe) > 120:
            safe = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        write_bytes(folder / f"{safe}.npz", buffer.getvalue())

    return keep
