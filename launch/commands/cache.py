"""`vocl cache`: features of frozen backbones computed before the runs that read them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from launch.selection.plan import select
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, GROUPS, SELECTOR, Line, verb, words
from vocl.config import folders
from vocl.config.proof import inputs
from vocl.config.run_config import RunConfig, values
from vocl.errors import UserError
from vocl.stop import EXIT_STOPPED, StopFlag, Stopped, stop_on_signal

if TYPE_CHECKING:
    from vocl.data.features.cache import FeatureCache

READS = ("backbone", "dataset", "eval", "runtime", "project")  # sections that features depend on


@verb("cache")
@words("SELECTOR", SELECTOR, required=True, takes=defaults.PLACED, offers=(ABLATIONS, GROUPS))
def main(line: Line) -> int:
    """Compute what runtime.feature_cache=auto would keep for the runs of SELECTOR, all of it, now.

    It is the work that the first of them would do. Returns 0, or 75 when it was stopped: the same
    command goes on. It is a mistake where no run has features that can be kept.
    """
    wanted, refused = {}, []
    for spec in select(line.words).runs:
        reason = inputs.not_cacheable(spec.config.content, folders.packages(spec.config.project))
        if reason:
            refused.append(f"{spec.label}: {reason}")
        else:
            wanted[_key(spec.config)] = spec.config
    if not wanted:
        raise UserError(f"{refused[0]}; there is nothing to cache")
    for told in refused:
        print(f"left out: {told}", file=sys.stderr)
    try:
        with stop_on_signal() as stop:
            for config in wanted.values():
                _fill(config, stop)
    except Stopped as stopped:
        print(f"stopped at {stopped}; the same command goes on", file=sys.stderr)
        return EXIT_STOPPED
    return 0


def _key(config: RunConfig) -> str:
    content = config.content
    own = {section: content[section] for section in READS} | {"precision": config.train.precision}
    return json.dumps(own, sort_keys=True)


def _fill(config: RunConfig, stop: StopFlag) -> None:
    from vocl.data.features.progress import Progress

    def advance() -> None:
        if stop:
            raise Stopped("the feature cache")

    for split, cache, mirrored in _caches(config):
        computed = cache.fill(mirrored, advance, Progress(f"{split}: features of videos"))
        frames = len(mirrored) * sum(cache.source[i].length for i in range(len(cache.source)))
        print(f"{cache.store.folder}: {split}: {frames} frames, {computed} of them new, {_size(cache)}")


def _caches(config: RunConfig) -> Iterator[tuple[str, FeatureCache, list[bool]]]:
    """Each split that the run of `config` reads, and which of frames and mirror images it shows of it."""
    import torch

    from vocl import assemble
    from vocl.data.features.cache import mirror_images
    from vocl.loading import pick_device
    from vocl.nn.execution.precision import set_tf32

    config = replace(config, runtime=replace(config.runtime, feature_cache="auto"))
    complaints = assemble.missing_inputs(config, fresh=True)
    if complaints:
        raise UserError("; ".join(complaints))
    if config.runtime.threads:
        torch.set_num_threads(config.runtime.threads)
    set_tf32(config.train.precision)
    device = pick_device(config.runtime.device)
    model = assemble.make_model(config, pretrained=True).to(device)
    for split, name in (("train", None), *_scored(config)):
        source = assemble.make_source(config, split, name)
        cache = assemble.feature_cache(config, source, split, model, device, name is None, name)
        if cache is not None:
            yield split, cache, mirror_images(config.dataset.flip) if name is None else [False]


def _scored(config: RunConfig) -> Iterator[tuple[str, str]]:
    """Each split that evaluations read, and one of those that read it: several may read the same."""
    from vocl import assemble

    found = {}
    for name in config.eval:
        for split in assemble.make_evaluation(config, name).splits:
            found[json.dumps(values(config.dataset_of(name)), sort_keys=True), split] = name
    yield from ((split, name) for (_, split), name in found.items())


def _size(cache: FeatureCache) -> str:
    files = [path.stat().st_size for path in Path(cache.store.folder).glob("*.safetensors")]
    return f"{sum(files) / 1e6:.1f} MB in all"
