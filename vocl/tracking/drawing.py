"""When the pictures for a tracker are drawn: once the run is done, so that nothing here undoes it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vocl.config.run_config import RunConfig
from vocl.config.sections import Dataset
from vocl.interface import Video, VideoModel
from vocl.rundir.run_dir import RunDir
from vocl.stop import StopFlag, Stopped
from vocl.tracking.track import Track

logger = logging.getLogger(__name__)
# draws them: config, model, folder, device, and what is called between two videos and may raise to stop
Draw = Callable[[RunConfig, VideoModel, RunDir, torch.device, Callable[[], None]], None]

# draws a video of a probe: model, video, its truth, dataset, device, file, title
Sketch = Callable[[VideoModel, Video, Any, Dataset, torch.device, Path, str], None]


def draw_for(
    track: Track,
    draw: Draw | None,
    config: RunConfig,
    model: VideoModel,
    run: RunDir,
    device: torch.device,
    stop: StopFlag,
) -> None:
    """Draw what the mirror of `track` is to show of `run`, if it has one."""
    if draw is None or track.mirror is None or not config.runtime.tracking_media:
        return

    def advance() -> None:
        track.alive()
        if stop:
            raise Stopped("the pictures")

    try:
        draw(config, model, run, device, advance)
    except Stopped:
        logger.info("stopped before the pictures for the tracker were drawn")
    except (Exception, SystemExit) as error:
        logger.warning("no pictures for the tracker: %s: %s", type(error).__name__, error)
