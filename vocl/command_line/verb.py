"""A verb: a click command that reads its words as all verbs do."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from vocl.command_line import defaults
from vocl.command_line.exit_codes import exit_code
from vocl.config.grammar import SIGNS, joined
from vocl.errors import UserError, near

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Decorator = Callable[[Callable[..., int]], Callable[..., int]]
# what words may name, for a shell to complete
RUNS, ABLATIONS, GROUPS, DATASETS, SEARCHES = "run ids", "ablations", "groups", "datasets", "searches"
SELECTOR = "An ablation, and overrides for all of its runs; or Hydra overrides alone."
SUBMITTED = "Ablations that were submitted, seed=..., run ids or their beginnings; or what vocl plan takes."
RUN = "A run id, its beginning, or a folder."
SETTINGS = {"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100}


@dataclass(frozen=True)
class Line:
    """The words of a command line that are no options. `words`: all of them, behind those of the defaults
    file; `typed`: without these; `names` are those that set nothing, `overrides` the others."""

    words: tuple[str, ...]
    typed: tuple[str, ...]
    names: tuple[str, ...]
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Verb:
    """A verb of `vocl`. Called with its words, it does what they say and returns the exit code."""

    command: click.Command
    program: str

    def __call__(self, words: Sequence[str] | None = None) -> int:
        given = list(sys.argv[1:] if words is None else words)
        return exit_code(lambda: self._read_and_run(given))

    def _read_and_run(self, words: list[str]) -> int:
        try:
            with self.command.make_context(self.program, words) as context:
                return int(self.command.invoke(context))
        except click.exceptions.Exit as over:  # --help has been printed
            return over.exit_code
        except click.ClickException as error:
            said = error.format_message().rstrip(".")
            raise UserError(f"{self.program}: {said}; see {self.program} --help") from None


@dataclass(frozen=True)
class VerbGroup:
    """A verb that has verbs of its own, such as `vocl data`: its first word says which."""

    program: str
    description: str
    verbs: Mapping[str, Verb]

    @property
    def command(self) -> click.Group:
        """All of them, for a shell to complete."""
        commands = {name: verb.command for name, verb in self.verbs.items()}
        return click.Group(self.program, commands, help=self.description, context_settings=SETTINGS)

    def __call__(self, words: Sequence[str] | None = None) -> int:
        given, choices = list(sys.argv[1:] if words is None else words), ", ".join(self.verbs)
        if not given or given[0] in ("-h", "--help"):
            command = self.command
            print(command.get_help(click.Context(command, info_name=self.program)))
            return 0
        if given[0] not in self.verbs:
            raise UserError(
                f"{self.program} {given[0]}: no such verb, choose from {choices}{near(given[0], self.verbs)}"
            )
        return self.verbs[given[0]](given[1:])


def verb(name: str, program: str | None = None) -> Callable[[Callable[..., int]], Verb]:
    """Make a verb of a function with options; its docstring is what --help says."""

    def made(function: Callable[..., int]) -> Verb:
        command = click.command(name, cls=_Command, context_settings=SETTINGS)(function)
        return Verb(command, program or f"vocl {name}")

    return made


def option(*flags: str, **attributes: Any) -> Decorator:
    """An option, as click has them."""
    return click.option(*flags, **attributes)


def words(shown: str, description: str, **attributes: Any) -> Decorator:
    """What a verb takes beside options: `shown` in its usage, `description` in its help. See `Words`."""
    made = click.argument("line", cls=Words, metavar=shown, description=description, **attributes)
    return made


class Words(click.Argument):
    """The words of a command line that are no options, in any order among them.

    `names`: so many of these words must name something. `keys`: the words that set something begin so;
    without, those are all that look like overrides. `takes`: keys and sections of the defaults file that
    the verb heeds. `offers`: what a shell completes names with.
    """

    def __init__(
        self,
        declared: Sequence[str],
        *,
        description: str,
        names: int | None = None,
        keys: tuple[str, ...] = (),
        takes: tuple[str, ...] = (),
        offers: tuple[str, ...] = (),
        **attributes: Any,
    ) -> None:
        required = attributes.pop("required", False)
        super().__init__(
            declared, required=required, nargs=-1, type=click.UNPROCESSED, callback=_read, **attributes
        )
        self.description, self.names, self.keys, self.takes, self.offers = (
            description,
            names,
            keys,
            takes,
            offers,
        )

    def make_metavar(self, *context: Any) -> str:
        """As it is declared: which words may be left out, a verb's own text says."""
        return self.metavar or ""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """What `incomplete` may become."""
        from vocl.command_line.completion import complete

        line = ctx.params.get("line")  # absent where words are required and none is there yet
        words = line.words if isinstance(line, Line) else _defaults((), self.takes, completing=True)
        return complete(incomplete, words, self.offers)


class _Command(click.Command):
    """Lists what it takes beside options, too."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Arguments, then options."""
        rows = [(each.make_metavar(), each.description) for each in self.params if isinstance(each, Words)]
        if rows:
            with formatter.section("Arguments"):
                formatter.write_dl(rows)
        super().format_options(ctx, formatter)


def _read(context: click.Context, parameter: click.Parameter, typed: Any) -> Line:
    """The words `typed` as a `Line`."""
    assert isinstance(parameter, Words)
    names = [word for word in typed if not _sets(word, parameter.keys)]
    if parameter.names is not None:  # beyond these, ~key removes; among them it may be a path
        removing = [word for word in names[parameter.names :] if word[:1] in SIGNS]
        names = [word for word in names if word not in removing]
    if not context.resilient_parsing:
        _refuse_torn(typed)
        if parameter.names not in (None, len(names)):
            given = shlex.join(names) or "nothing"
            raise UserError(f"usage: {context.command_path} {parameter.metavar}; got {given}")
    own = _defaults(typed, parameter.takes, context.resilient_parsing)
    overrides = (word for word in typed if word not in names)
    return Line((*own, *typed), tuple(typed), tuple(names), (*own, *overrides))


def _sets(word: str, keys: tuple[str, ...]) -> bool:
    """Whether a word sets something, and so names nothing."""
    return word.startswith(keys) if keys else "=" in word


def _defaults(typed: Sequence[str], taken: Sequence[str], completing: bool) -> tuple[str, ...]:
    if not taken:
        return ()
    try:
        found = defaults.beside(typed, taken, say=not completing)
    except UserError:
        if completing:
            return ()
        raise
    return found


def _refuse_torn(typed: Sequence[str]) -> None:
    """Refuse an override that a shell took apart at its spaces, and say how to write it."""
    if torn := joined(typed):
        raise UserError(f"{torn}: has spaces, at which a shell takes it apart; write {shlex.quote(torn)}")
