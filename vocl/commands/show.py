"""`vocl show RUN...`: what runs see in held-out videos, beside the truth, in one figure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vocl import assemble
from vocl.commands.pictures import figures
from vocl.commands.pictures.overlay import like_truth, spaced, write_picture
from vocl.commands.pictures.sheet import SHEET, picture
from vocl.commands.pictures.slot_facts import slot_facts
from vocl.commands.predict import device_of
from vocl.commands.ranked import UNRANKED, Ranked, Ranking, ranked
from vocl.commands.segmented import segment, window, windows
from vocl.config.run_config import RunConfig
from vocl.config.sections import Dataset
from vocl.data.truth import Truth
from vocl.errors import UserError
from vocl.files import user_path, write_json
from vocl.interface import Source, Video
from vocl.loading import Loaded, load_run, saved_config
from vocl.rundir.new_folder import new_folder
from vocl.rundir.results_root import ResultsRoot

FACTS = "videos.json"  # in a folder of pictures


@dataclass(frozen=True)
class Shown:
    """A run to draw, and the videos that it is shown."""

    run: Loaded
    dataset: Dataset
    source: Source

    @property
    def id(self) -> str:
        """The run's id, or the name of its folder."""
        return self.run.run.path.resolve().name


@dataclass(frozen=True)
class Seen:
    """A video and what each run saw in it: `labels` t h w by run, in the colours of `truth` where there is
    one, and facts of its slots."""

    video: Video
    title: str
    score: float | None
    labels: dict[str, np.ndarray]
    truth: np.ndarray | None
    facts: dict[str, dict[str, Any]]

    @property
    def rows(self) -> dict[str, np.ndarray]:
        """The labels by what their rows are called: a run alone has no need of its id."""
        return self.labels if len(self.labels) > 1 else {"slots": next(iter(self.labels.values()))}

    def sheet(self) -> np.ndarray:
        """A few frames as one picture."""
        shown = spaced(self.video.length, SHEET["columns"])
        true = None if self.truth is None else self.truth[shown]
        frames = np.ascontiguousarray(self.video.frames(shown))
        return picture(frames, {n: own[shown] for n, own in self.rows.items()}, true, shown, self.title)


def show(runs: Sequence[str], values: dict[str, Any], ranking: Ranking = UNRANKED) -> Path:
    """Draw `runs` as `values` (see `key_values.SHOW`) and `ranking` say; returns what was written.

    The videos are those of the first run: the one called `video`, those that `ranking` chooses by its
    rows, or the first one of its held-out split. They are segmented up to their end.
    """
    _refuse(values, ranking)
    if len(runs) > 1 and not values["out"]:
        raise UserError("out: missing, give out=FILE for a picture of several runs")
    device = device_of(values["runtime.device"])
    shown, found = _load(runs, values, ranking, device)
    chosen = [(name, score) for name, score in found.videos] if found else [(values["video"], None)]
    videos = _videos(shown[0].source, [name for name, _ in chosen])
    seen = (
        _seen(shown, video, score, found.metric if found else "", device)
        for video, (_, score) in zip(videos, chosen, strict=True)
    )
    out = user_path(values["out"]) if values["out"] else shown[0].run.run.path / "overlay.png"
    if is_folder(values["out"]):
        return _write_folder(out, seen)
    try:
        _write(out, seen)
    except OSError as error:
        raise UserError(f"out={out}: cannot write there: {error.strerror or error}") from None
    return out


def is_folder(out: str | Path | None) -> bool:
    """Whether `out` asks for a folder with a picture per video."""
    return str(out or "").endswith("/")


def _refuse(values: dict[str, Any], ranking: Ranking) -> None:
    """Refuse what cannot be drawn, before any weights are read."""
    if ranking and not ranking.by:
        raise UserError("--by: missing, give --by METRIC for --best and --worst")
    if ranking.by and not ranking:
        raise UserError(f"--by {ranking.by}: give --best N or --worst N, too")
    if ranking and values["video"] is not None:
        raise UserError(f"video={values['video']}: --best and --worst choose the videos, leave it out")
    if values["out"] and not is_folder(values["out"]):
        figures.refuse_suffix(Path(values["out"]))
        many = ranking.best + ranking.worst > 1
        if many and Path(values["out"]).suffix.lower() == figures.FILM:
            raise UserError(f"out={values['out']}: a film shows one video, as with --worst 1")


def _load(
    runs: Sequence[str], values: dict[str, Any], ranking: Ranking, device: torch.device
) -> tuple[list[Shown], Ranked | None]:
    """The runs, all shown the dataset that the first one's rows are of, if these choose the videos."""
    root = values["runtime.root"]
    places = [ResultsRoot.of(root).find_trusted(run) for run in dict.fromkeys(runs)]
    configs = [saved_config(place, root) for place in places]
    found = ranked(places[0], configs[0], ranking) if ranking else None
    shown: list[Shown] = []
    for number, (place, config) in enumerate(zip(places, configs, strict=True)):
        if values["runtime.data_root"] is not None:
            runtime = replace(config.runtime, data_root=values["runtime.data_root"])
            config = replace(config, runtime=runtime)
        name = found.evaluation if found else None
        if found is not None:
            config = replace(config, eval=found.config.eval)
            assert name is not None
            split = assemble.make_evaluation(config, name).split
        else:
            split = split_of(config)
        source = assemble.make_source(config, split, name) if number == 0 else shown[0].source
        loaded = load_run(place, config, device)
        shown.append(Shown(loaded, assemble.make_dataset(config, name), source))
    return shown, found


def split_of(config: RunConfig) -> str:
    """The split that the first evaluation on the run's own dataset scores; without one, validation."""
    names = (name for name, own in config.eval.items() if own.dataset is None)
    first = next(names, None)
    return "validation" if first is None else assemble.make_evaluation(config, first).split


def _videos(source: Source, names: Sequence[str | None]) -> list[Video]:
    if len(source) == 0:
        raise UserError("dataset: its held-out split has no videos")
    if list(names) == [None]:
        return [source[0]]
    videos = {video.name: video for video in (source[i] for i in range(len(source)))}
    for name in names:
        if name not in videos:
            some = ", ".join(list(videos)[:5]) + (" ..." if len(videos) > 5 else "")
            raise UserError(f"video={name}: no such video, choose from {some}")
    return [videos[name] for name in names if name is not None]


def _seen(
    runs: Sequence[Shown], video: Video, score: float | None, metric: str, device: torch.device
) -> Seen:
    known = runs[0].source.truth(video.name)
    truth = known.labels("paint")[0] if isinstance(known, Truth) else None
    labels, facts = {}, {}
    for run in runs:
        labels[run.id], facts[run.id] = _labels(run, video, device)
        if truth is not None:
            labels[run.id] = like_truth(labels[run.id], truth)
    whose = f" of {runs[0].id}" if len(runs) > 1 else ""
    title = video.name if score is None else f"{video.name}   {metric}{whose} {score:.3g}"
    return Seen(video, title, score, labels, truth, facts)


def _labels(run: Shown, video: Video, device: torch.device) -> tuple[np.ndarray, dict[str, Any]]:
    """What a run sees in all frames, and facts of its slots."""
    model, dataset = run.run.model, run.dataset
    shown = windows(video, video.length, window(model, video.length))
    found, slots, number = [], [], 0
    for part in segment(model, shown, dataset, dataset.fit, device, video.name):
        found.append(part.labels)  # neither frames nor masks are kept
        slots += [] if part.slots is None else [part.slots.cpu()]
        number = part.masks.shape[1]
    labels = np.concatenate(found)
    return labels, slot_facts(labels, number, torch.cat(slots) if len(slots) == len(found) else None)


def _write(out: Path, seen: Iterator[Seen]) -> None:
    if out.suffix.lower() == figures.FILM:
        one = next(seen)
        figures.write_film(out, one.video, one.rows, one.truth)
    else:
        figures.write_sheets(out, [each.sheet() for each in seen])


def _write_folder(out: Path, seen: Iterator[Seen]) -> Path:
    """A folder with a picture per video, in order, and `FACTS` of their slots."""
    facts = []
    with new_folder(out, "out") as folder:
        for number, each in enumerate(seen):
            name = f"{number:03d}.png"
            write_picture(folder / name, each.sheet())
            own = {"video": each.video.name, "picture": name, "score": each.score, "facts": each.facts}
            facts.append(own)
        write_json(folder / FACTS, facts)
    return out
