"""config.yaml of a run: reading and writing it. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import yaml

from vocl.config.check import check
from vocl.config.migrate import migrate
from vocl.config.run_config import RunConfig
from vocl.config.safe_yaml import read_saved
from vocl.config.schema import Config
from vocl.errors import UserError
from vocl.files import write_text


def read(path: Path) -> RunConfig:
    """The config in the file `path`, in today's keys and checked. Raises `UserError`."""
    saved = read_saved(path)
    if not isinstance(saved, dict):
        raise UserError(f"{path}: not the config of a run")
    try:
        return check(migrate(saved))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def read_unchecked(path: Path) -> Config:
    """The config in today's keys, not checked; as it stands where that is damaged."""
    saved = read_as_saved(path)
    try:
        return migrate(saved)
    except (UserError, KeyError, TypeError, AttributeError):
        return saved


def read_as_saved(path: Path) -> Config:
    """The config as it stands; empty where there is none that can be read."""
    try:
        content = read_saved(path)
    except UserError:
        return {}
    return content if isinstance(content, dict) else {}


def write(path: Path, config: Config) -> None:
    """Write it, in the order of its keys."""
    write_text(path, yaml.safe_dump(config, sort_keys=False))
