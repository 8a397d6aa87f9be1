"""Checkpoints: atomic, self-checking, newest valid first; opened without executing anything.

A file is `<step>-<digest>.pt`, the digest that of its content: one rename commits both, a torn or
damaged file betrays itself. What no stage ever trains (a frozen backbone) is not repeated in each:
it is stored once as `frozen-<digest>.safetensors`, hard-linked between runs that share it.
`best-<step>-<digest>.pt` is the state of the best probe, `best.json` what was said of it.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vocl.errors import UserError
from vocl.files import NUMBER, Kinds, make_folder, read_bytes, record_or_none, write_bytes, write_json
from vocl.rundir.checkpoint_files import (
    BEST,
    CheckpointFile,
    best_name,
    checkpoint_files,
    digest_of,
    frozen_name,
    name_of,
)

KEEP = 2
BEST_RECORD = "best.json"
BEST_KINDS: Kinds = {"step": int, "digest": str, "score": NUMBER, "scored": dict}

State = dict[str, Any]


class Checkpoints:
    """The checkpoint folder of one run; those of `keep_steps` stay beside the newest two."""

    def __init__(self, folder: Path, keep_steps: frozenset[int] = frozenset()) -> None:
        self.folder, self.keep_steps = folder, keep_steps

    def list(self) -> list[CheckpointFile]:
        """All files by step, newest first, unchecked."""
        return checkpoint_files(self.folder)

    def save(self, step: int, state: State) -> CheckpointFile:
        """Write `state` for `step`, then drop what is no longer needed."""
        content = _packed(state)
        digest = digest_of(content)
        path = self.folder / name_of(step, digest)
        write_bytes(path, content)  # also over a file of this name: that one may be the damaged one
        saved = CheckpointFile(path, step, digest)
        self._prune(saved)
        return saved

    def newest(self, before: int | None = None) -> tuple[CheckpointFile, State] | None:
        """The newest checkpoint whose content matches its name, at or before step `before`."""
        return _first_valid(found for found in self.list() if before is None or found.step <= before)

    def weights(self, state: State) -> dict[str, Tensor]:
        """All weights of the model in checkpoint `state`, the frozen ones included."""
        try:
            return self.load_frozen(state["frozen"]) | state["model"]
        except (KeyError, TypeError):
            raise UserError(
                f"{self.folder}: its newest checkpoint does not hold the weights of a model"
            ) from None

    def _prune(self, saved: CheckpointFile) -> None:
        """Keep `saved`, the one before it, and `keep_steps`. What is later, or another file of the
        same step, was damaged: otherwise the run would have gone on from it."""
        files = self.list()
        kept = [saved, *[c for c in files if c.step < saved.step][: KEEP - 1]]
        for found in files:
            wanted = found.step in self.keep_steps and found.step < saved.step
            if found not in kept and not wanted:
                with suppress(FileNotFoundError):
                    found.path.unlink()

    # ---------------------------------------------------------------------------- the best probe

    def best(self) -> tuple[CheckpointFile, State] | None:
        """The checkpoint of the best probe, whose content matches its name; None where there is none."""
        known = self.best_record()
        files = checkpoint_files(self.folder, BEST)
        chosen = [found for found in files if known is None or found.digest == known["digest"]]
        return _first_valid(chosen)

    def best_record(self) -> dict[str, Any] | None:
        """What was said of it when it was saved: `step`, `digest`, `score`, and what was scored; None without
        the file that it is of."""
        found = record_or_none(self.folder / BEST_RECORD, BEST_KINDS)
        is_there = found and (self.folder / best_name(found["step"], found["digest"])).is_file()
        return found if is_there else None

    def save_best(self, step: int, state: State, score: float, scored: Mapping[str, Any]) -> None:
        """Keep `state` as that of the best probe, which has `score` in what `scored` says, instead of the one
        that is there. It lies beside the others, and is never the newest."""
        content = _packed(state)
        digest = digest_of(content)
        path = self.folder / best_name(step, digest)
        write_bytes(path, content)
        record = {"step": step, "digest": digest, "score": score, "scored": dict(scored)}
        write_json(self.folder / BEST_RECORD, record)
        for found in checkpoint_files(self.folder, BEST):
            if found.path != path:
                with suppress(FileNotFoundError):
                    found.path.unlink()

    # ------------------------------------------------------------------------- frozen parameters

    def save_frozen(self, tensors: Mapping[str, Tensor], shared: Path) -> str | None:
        """Store `tensors` once, linked from the folder `shared` of all runs; returns their digest."""
        if not tensors:
            return None
        from safetensors.torch import save

        content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
        digest = digest_of(content)
        path = self.folder / frozen_name(digest)
        original = shared / path.name
        if original.is_symlink() or not original.exists() or digest_of(original.read_bytes()) != digest:
            write_bytes(original, content)
        make_folder(path.parent)
        path.unlink(missing_ok=True)
        try:
            os.link(original, path, follow_symlinks=False)
        except OSError:  # another file system, or one without links
            write_bytes(path, content)
        return digest

    def load_frozen(self, digest: str | None) -> dict[str, Tensor]:
        """The tensors that `save_frozen` stored under `digest`."""
        if digest is None:
            return {}
        from safetensors import SafetensorError
        from safetensors.torch import load

        path = self.folder / frozen_name(digest)
        if not path.is_file():
            raise UserError(f"{path}: missing; it holds the frozen weights of this run")
        content = read_bytes(path)
        if digest_of(content) != digest:
            raise UserError(f"{path}: damaged, its content does not match its name")
        try:
            return load(content)
        except SafetensorError as error:
            raise UserError(f"{path}: damaged: {error}") from None


def _packed(state: State) -> memoryview:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def _first_valid(files: Iterable[CheckpointFile]) -> tuple[CheckpointFile, State] | None:
    """The first of `files` whose content matches its name."""
    for found in files:
        try:
            content = read_bytes(found.path)
        except (FileNotFoundError, UserError):  # dropped since the listing, by what trains; no file
            continue
        if digest_of(content) == found.digest:
            return found, _state(content, found.path)
    return None


def _state(content: bytes, path: Path) -> State:
    """What a checkpoint holds: tensors and plain values. Torch's own errors advise to run what is in it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        what = f"damaged, or not of weights and plain values alone ({type(error).__name__})"
        raise UserError(f"{path}: {what}") from None
    if not isinstance(state, dict):
        raise UserError(f"{path}: not the checkpoint of a run, it holds a {type(state).__name__}")
    return state
