"""Running the evaluations of a run and keeping what they say beside it."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocl import assemble, dist, result
from vocl import config as configs
from vocl.config import Config
from vocl.files import write_bytes, write_json
from vocl.interface import VideoModel

Entry = dict[str, Any]


def evaluate(
    config: Config,
    model: VideoModel,
    checkpoint_digest: str,
    folder: Path,
    device: torch.device,
    advance: Callable[[], Any] = lambda: None,
) -> dict[str, Entry]:
    """Run every evaluation of `config["eval"]` and write `<folder>/eval/<eval_id>/`.

    Returns {name: {eval_id, protocol, num_videos, metrics, rows}} with `rows` the path of the
    per-video rows inside `folder`. One that lies there already is not run again. `advance` is
    called by every rank equally often, and may raise to stop.
    """
    dataset = assemble.make_dataset(config)
    entries = {}
    for name, part in assemble.parts(config, "eval").items():
        identity = _identity(config, name, checkpoint_digest)
        place = folder / "eval" / configs.evaluation_id(identity)
        masks = place / "masks" if config["runtime"]["keep_masks"] else None
        done = dist.gather_objects(_stored(folder, place) if masks is None or masks.is_dir() else None)[0]
        if done is None:
            evaluation = part()
            source = assemble.make_source(config, evaluation.split)
            keep = _keeper(masks) if masks else None
            report = evaluation.run(model, source, dataset, device, keep, advance)
            done = {
                "eval_id": place.name,
                "protocol": report.protocol,
                "num_videos": len(report.rows),
                "metrics": report.metrics,
                "rows": f"eval/{place.name}/rows.json",
            }
            if dist.rank() == 0:
                write_json(place / "rows.json", report.rows)
                write_json(place / "report.json", identity | done)  # last: its presence is "done"
        entries[name] = done
    return entries


def settings_of(folder: Path, eval_id: str) -> Config | None:
    """The settings of a stored evaluation; None when its report is gone."""
    report = result.report(folder, eval_id)
    return report["eval"] if report else None


def _identity(config: Config, name: str, checkpoint_digest: str) -> Config:
    """What decides an evaluation's scores, and so its id; its own randomness is seeded by an option."""
    run, settings = configs.run_id(config), config["eval"][name]
    return {"run": run, "checkpoint": checkpoint_digest, "eval": settings, "dataset": config["dataset"]}


def _stored(folder: Path, place: Path) -> Entry | None:
    report = result.report(folder, place.name)
    return {key: report[key] for key in result.ENTRY} if report else None


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
