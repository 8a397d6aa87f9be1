"""What a shell completes a word with: names of runs, ablations and config groups, and their choices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    shell_complete,
    split_arg_string,
)

from vocl.command_line.verb import ABLATIONS, DATASETS, GROUPS, RUNS, SEARCHES
from vocl.config.compose import group_choices, project_of, top_choices
from vocl.config.folders import CONF, conf_folders
from vocl.config.grammar import key_of, text_of
from vocl.config.safe_yaml import read_yaml
from vocl.errors import UserError
from vocl.rundir.results_root import ResultsRoot

FOLDERS = ("runtime.root", "runtime.data_root", "runtime.weights_root", "project")
FILES = ("video", "out")
NO_GROUPS = ("ablation", "published", "prepare", "search")  # folders of conf/ that are no config groups
VALUES = ("seed=", *(f"{key}=" for key in FOLDERS))
GLUE = ("=", ":", "@")  # bash takes a word apart at these


def answer(verbs: Mapping[str, str], load: Callable[[str], click.Command], variable: str) -> int:
    """Print what a shell asks for in the environment variable `variable`."""
    return shell_complete(_Verbs(verbs, load), {}, "vocl", variable, os.environ[variable])


class _Verbs(click.Group):
    """The verbs, each loaded when its own words are completed."""

    def __init__(self, verbs: Mapping[str, str], load: Callable[[str], click.Command]) -> None:
        super().__init__("vocl")
        self._verbs, self._load = verbs, load

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._load(cmd_name) if cmd_name in self._verbs else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [CompletionItem(v, help=t) for v, t in self._verbs.items() if v.startswith(incomplete)]


def complete(incomplete: str, words: Sequence[str], offers: Sequence[str]) -> list[CompletionItem]:
    """What `incomplete` may become beside `words`; `offers`: what it may name."""
    try:
        project = project_of(words)
    except UserError:
        project = None
    key, equals, value = incomplete.partition("=")
    if equals:
        return _values(key, value, words, project)
    found: list[str] = []
    if RUNS in offers:
        found += _runs(words)
    if ABLATIONS in offers:
        found += group_choices("ablation", project)
    if SEARCHES in offers:
        found += group_choices("search", project)
    if DATASETS in offers:
        found += [name for name in group_choices("prepare", project) if name != "default"]
    if GROUPS in offers:
        found += [*(f"{group}=" for group in _groups(project)), *VALUES]
    found += [each for each in offers if each.endswith("=")]
    return [CompletionItem(each) for each in dict.fromkeys(found) if each.startswith(incomplete)]


def _values(key: str, value: str, words: Sequence[str], project: str | None) -> list[CompletionItem]:
    """What `key=value` may become."""
    if key in FOLDERS or key in FILES:
        return [CompletionItem(value, type="dir" if key in FOLDERS else "file")]
    choices = _runs(words) if key == "checkpoint" else top_choices(key.lstrip("+"), project)
    before = value[: max(value.rfind("["), value.rfind(",")) + 1]  # of a list, all but its last
    whole = (f"{before}{each}" for each in choices)
    return [CompletionItem(f"{key}={each}") for each in whole if each.startswith(value)]


def _runs(words: Iterable[str]) -> list[str]:
    given = [text_of(word.partition("=")[2]) for word in words if key_of(word) == "runtime.root"]
    try:
        root = given[-1] if given else read_yaml(CONF / "runtime" / "default.yaml")["root"]
        return ResultsRoot.of(root).run_ids()
    except (OSError, UserError):
        return []


def _groups(project: str | None) -> list[str]:
    """Config groups; those within others too, where the others have choices of their own beside them."""
    found = set()
    for conf in conf_folders(project):
        found |= {path.relative_to(conf).parent.as_posix() for path in conf.rglob("*.yaml")}
    return sorted(
        group
        for group in {*found, *(each.partition("/")[0] for each in found)} - {".", *NO_GROUPS}
        if "/" not in group or group.partition("/")[0] in found
    )


@add_completion_class
class _Bash(BashComplete):
    """Bash takes words apart at signs within overrides, and completes what stands behind the last."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)", "COMPREPLY+=($value)\n            [[ $value == *= ]] && compopt -o nospace"
    )

    is_whole = False  # whether bash replaces the whole word, not what stands behind its last sign

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is completed, and that."""
        words = split_arg_string(os.environ["COMP_WORDS"])
        at = int(os.environ["COMP_CWORD"])
        last = words[at] if at < len(words) else ""
        self.is_whole = "=" in last and last not in GLUE  # in quotes bash takes no word apart
        whole, sticks = [""], False
        for word in (*words[1:at], *(words[at : at + 1] or [""])):
            is_glue = word in GLUE
            if is_glue or sticks:
                whole[-1] += word
            else:
                whole.append(word)
            sticks = is_glue
        return whole[1:-1], whole[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """A line for the shell's function."""
        is_whole = self.is_whole or item.value.endswith("=")
        value = item.value if is_whole else item.value.rpartition("=")[2]
        return f"{item.type},{value}"
