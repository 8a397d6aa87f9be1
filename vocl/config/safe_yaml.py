"""YAML files: those that people write are read as Hydra reads its own, every mistake is one line with its
place; none may stand for more than it seems to."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from vocl.errors import UserError
from vocl.files import read_bytes

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # a table has hundreds of configs
MOST_VALUES = 10_000  # aliases written out: a few hundred bytes can stand for billions
MERGE, NULL = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:null"
NOTHING = re.compile(r"(?!)")


def read_yaml(path: Path, names: re.Pattern[str] = NOTHING) -> Any:
    """The content of a YAML file in UTF-8. UserError with file, line and column of what is wrong.

    Keys are words: one that YAML would turn into another (`on`, `1:30`, `010`) is refused, as is one that
    stands twice. Values at places (`table.groups[0]`) that `names` matches are words, too, or null.
    """
    with _one_line(path):
        loader, node = _read(path)
        if node is None:
            return None
        for each in _misread(loader, node, names, ""):
            turned = loader.construct_object(each)
            raise UserError(
                f"{_place(path, each.start_mark)}: YAML reads {each.value} as {turned!r}; "
                f"quote it: '{each.value}'"
            )
        return loader.construct_document(node)


def read_saved(path: Path) -> Any:
    """The content of a YAML file that a program wrote, as that of a run; anybody may have put another
    there. Raises `UserError` for whatever is wrong with it, also where it is absent."""
    with _one_line(path):
        loader = LOADER(read_bytes(path))
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _refuse_bomb(node, path)  # before merge keys are written out
            return loader.construct_document(node)
        finally:
            loader.dispose()


def refuse_unreadable(path: Path) -> None:
    """Refuse a file that Hydra could not read, or not in a lifetime. UserError."""
    with _one_line(path):
        _read(path)


def _read(path: Path) -> tuple[Any, yaml.Node | None]:
    """A loader, and the file's nodes with tags by its rules."""
    loader = _loader()(path.read_bytes().decode())
    node = loader.get_single_node()
    if node is not None:
        _refuse_bomb(node, path)
    return loader, node


@contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except yaml.YAMLError as error:
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        place = _place(path, getattr(error, "problem_mark", None))
        raise UserError(f"{place}: not valid YAML: {problem}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply") from None
    except ValueError as error:  # a number with too many digits
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None


@functools.cache
def _loader() -> Any:
    # OmegaConf has no public name for the class by which `OmegaConf.load`, so Hydra, reads numbers and keys.
    from omegaconf._utils import get_yaml_loader

    return get_yaml_loader()


def _place(path: Path, mark: yaml.Mark | None) -> str:
    return f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _refuse_bomb(node: yaml.Node, path: Path) -> None:
    """Refuse aliases that stand for more than anybody means, and those inside of themselves."""
    sizes: dict[int, int | None] = {}  # None while its children are counted

    def size(each: yaml.Node) -> int:
        if id(each) not in sizes:
            sizes[id(each)] = None
            sizes[id(each)] = 1 + sum(map(size, _children(each)))
        found = sizes[id(each)]
        if found is None or found > MOST_VALUES:
            why = "stands inside of itself" if found is None else f"stands for over {MOST_VALUES} values"
            raise UserError(f"{_place(path, each.start_mark)}: an alias or list {why}")
        return found

    size(node)


def _misread(loader: Any, node: yaml.Node, names: re.Pattern[str], at: str) -> Iterator[yaml.Node]:
    """Words below `node`, which stands at place `at`, that YAML reads as something else."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.tag == MERGE:
                yield from _misread(loader, value, names, at)
                continue
            _refuse_key(key, seen)
            if str(loader.construct_object(key)) != key.value:
                yield key
            yield from _misread(loader, value, names, f"{at}.{key.value}" if at else key.value)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _misread(loader, value, names, f"{at}[{index}]")
    elif names.fullmatch(at) and node.tag != NULL and str(loader.construct_object(node)) != node.value:
        yield node


def _refuse_key(key: yaml.Node, seen: set[str]) -> None:
    if not isinstance(key, yaml.ScalarNode):
        raise yaml.constructor.ConstructorError(None, None, "a key is a word", key.start_mark)
    if key.value in seen:
        raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
    seen.add(key.value)
