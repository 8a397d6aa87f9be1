"""`vocl data`: making stores of published datasets, and looking into them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from vocl.command_line.verb import DATASETS, Line, VerbGroup, option, verb, words
from vocl.commands.key_values import PREVIEW, key_values
from vocl.config.build import build
from vocl.config.compose import finished_alone, group_choices
from vocl.config.folders import packages
from vocl.config.proof import signature
from vocl.config.proof.coerce import coerce
from vocl.errors import UserError, near
from vocl.files import user_path
from vocl.stop import EXIT_STOPPED, Stopped, stop_on_signal

CONVERTER = signature.part_of("vocl.data.convert.converter.Converter")
GROUP = "prepare"


@verb("prepare", "vocl data prepare")
@words(
    "NAME SOURCE OUT [KEY=VALUE...]",
    "NAME: a file of conf/prepare; SOURCE: the dataset as it was published; OUT: a new folder, usually "
    "<data_root>/NAME. KEY: workers, shard_mb, skip_damaged, convert.partial, and others of that file.",
    names=3,
    offers=(DATASETS, "workers=", "shard_mb=", "skip_damaged=", "convert.partial=", "project="),
)
def prepare(line: Line) -> int:
    """Make a store of a dataset: tar shards, an index of each, and its splits.

    Goes on with what an earlier call left unfinished. Returns 0, or 75 when stopped.
    """
    from vocl.data.store import prepare as preparing
    from vocl.data.store.layout import MASK
    from vocl.data.store.reading import Store

    name, source, out = line.names[0], user_path(line.names[1]), user_path(line.names[2])
    config = _composed(name, list(line.overrides))
    allowed = packages(config["project"])
    types = signature.read("vocl.data.store.prepare.Settings", allowed).parameters
    how = preparing.Settings(**{key: coerce(config[key], types[key], key, allowed) for key in types})
    made = build(config["convert"], CONVERTER, "convert", allowed)
    for inner, outer, what in ((out, source, "OUT lies in SOURCE"), (source, out, "SOURCE lies in OUT")):
        if inner.resolve().is_relative_to(outer.resolve()):
            raise UserError(f"{inner}: {what}; choose another folder")
    with stop_on_signal() as stop:
        try:
            manifest = preparing.prepare(made(source.resolve()), config["convert"], name, out, how, stop)
        except Stopped as stopped:
            print(f"{out}: stopped after {stopped}; the same command goes on", file=sys.stderr)
            return EXIT_STOPPED
    for why in manifest.skipped:
        print(f"left out: {why}", file=sys.stderr)
    entries = Store(out).entries.values()
    if any(entry.has(MASK) for entry in entries) and not any(entry.objects > 0 for entry in entries):
        hint = " (to take 255 for one: convert.binary=true)" if "binary" in config["convert"] else ""
        print(f"note: no mask of {out} has an object, 0 is background and 255 void{hint}", file=sys.stderr)
    return _describe(out)


@verb("verify", "vocl data verify")
@words("STORE", "A folder that vocl data prepare has made.", names=1)
@option("--sums", is_flag=True, help="Compare the sums of files alone, decode nothing.")
def verify(line: Line, sums: bool) -> int:
    """Look whether a store is what was written; names everything that is not.

    Returns 0, or 1 where something is damaged.
    """
    from vocl.data.store.verify import faults

    found = False
    for fault in faults(user_path(line.names[0]), decode=not sums):
        print(fault, file=sys.stderr)
        found = True
    if not found:
        print(f"{line.names[0]}: whole")
    return int(found)


@verb("info", "vocl data info")
@words("STORE", "A folder that vocl data prepare has made.", names=1)
def info(line: Line) -> int:
    """Print what a store holds: splits, videos, frames, sizes, annotations."""
    return _describe(user_path(line.names[0]))


@verb("preview", "vocl data preview")
@words(
    "STORE [KEY=VALUE...]",
    "KEY: out (a picture, default preview.png), split (default: the first), videos (a number, or a name).",
    names=1,
    offers=tuple(f"{key}=" for key in PREVIEW),
)
def preview(line: Line) -> int:
    """Draw frames of some videos of a store with their masks."""
    from vocl.commands.pictures.preview import draw

    print(draw(user_path(line.names[0]), key_values(line.overrides, PREVIEW)))
    return 0


main = VerbGroup(
    "vocl data",
    "Make stores of published datasets, and look into them.",
    {"prepare": prepare, "verify": verify, "info": info, "preview": preview},
)


def _composed(name: str, overrides: list[str]) -> dict[str, Any]:
    from vocl.config.compose import project_of

    choices = [choice for choice in group_choices(GROUP, project_of(overrides)) if choice != "default"]
    if name not in choices:
        raise UserError(f"vocl data prepare {name}: choose from {', '.join(choices)}{near(name, choices)}")
    return finished_alone(f"{GROUP}/{name}", overrides)


def _describe(folder: Path) -> int:
    """Print what a store holds."""
    from vocl.data.store import splits
    from vocl.data.store.reading import Store

    store = Store(folder)
    store.refuse_cut()
    entries, manifest = store.entries, store.manifest
    frames = sum(entry.length for entry in entries.values())
    size = sum(shard.bytes for shard in manifest.shards)
    held = f"{len(entries)} videos, {frames} frames, {size / 1e9:.3g} GB (shards: {len(store.shards)})"
    print(f"{folder}: {manifest.name}, {held}")
    if manifest.skipped:
        print(f"videos left out: {len(manifest.skipped)}, the first because {manifest.skipped[0]}")
    sizes = {entry.size for entry in entries.values()}
    print(f"sizes: {', '.join(f'{w}x{h}' for h, w in sorted(sizes)[:6])}{' ...' if len(sizes) > 6 else ''}")
    for name in splits.names(folder):
        videos = [entries[v] for v in splits.read(folder, name, manifest.annotation, entries)]
        lengths = np.array([entry.length for entry in videos])
        kinds = dict.fromkeys(kind for entry in videos for kind in entry.shard.members if entry.has(kind))
        span = f"{lengths.min()} to {lengths.max()} frames" if np.ptp(lengths) else f"{lengths[0]} frames"
        print(f"  {name:20} {len(videos):6} videos of {span}: {', '.join(kinds)}")
    return 0
