"""From a selector to runs that do not exist yet: composed, checked, signed. No side effect."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launch import ablation as ablations
from launch.ablation import Ablation, Overrides
from vocl import config as configs
from vocl.compose import compose, project_of, quoted
from vocl.config import Config
from vocl.errors import UserError

PROBE = 602214076  # a seed nobody chooses: shows whether anything else in a config depends on the seed


@dataclass(frozen=True)
class Spec:
    """One run before it exists, and the place in a table that wants it."""

    id: str
    cell: str
    config: Config
    row: str
    column: str
    seed: int

    @property
    def label(self) -> str:
        """How people are told about it."""
        return ", ".join(part for part in (self.row, self.column, f"seed {self.seed}") if part)


@dataclass(frozen=True)
class Selection:
    """What a command line selects: a spec per row, column and seed (ids may repeat)."""

    specs: list[Spec]
    ablation: Ablation | None
    arguments: tuple[str, ...]

    @property
    def root(self) -> Path:
        """The results folder, the same for all."""
        roots = {spec.config["runtime"]["root"] for spec in self.specs}
        if len(roots) > 1:
            raise UserError(f"runtime.root: one command writes to one folder, not {', '.join(sorted(roots))}")
        return Path(roots.pop()).expanduser()

    @property
    def runs(self) -> list[Spec]:
        """One spec per id: a run that several cells want is trained once."""
        return list({spec.id: spec for spec in reversed(self.specs)}.values())[::-1]


def select(arguments: Sequence[str]) -> Selection:
    """The specs of `ablation=NAME [overrides]` (a bare word is an ablation) or of plain overrides.

    Overrides beside an ablation apply to all of its runs, after everything its file says. Comma
    lists (`seed=0,1,2`) expand to several runs; beside an ablation only seeds do.
    """
    if not arguments:
        raise UserError("no selector: give an ablation's name or Hydra overrides, e.g. demo or seed=0,1,2")
    names = [a.removeprefix("ablation=") for a in arguments if a.startswith("ablation=") or _is_word(a)]
    extras = [quoted(a) for a in arguments if not a.startswith("ablation=") and not _is_word(a)]
    if len(names) > 1:
        raise UserError(f"{' '.join(names)}: choose one ablation")
    swept = {o.partition("=")[0]: _values(o) for o in extras}
    if not names:
        return Selection(_from_overrides(extras, swept), None, tuple(arguments))
    chosen = ablations.read(names[0], project_of(extras))
    return Selection(_from_ablation(chosen, extras, swept), chosen, tuple(arguments))


def state(run: Path) -> str:
    """done, failed (the last attempt ended so), interrupted (there are checkpoints), or new."""
    if (run / "result.json").is_file():
        return "done"
    events = sorted(path.name for path in (run / "events").glob("[0-9]*-*.json"))
    if events and f"{events[-1].partition('-')[0]}-failed.json" in events:
        return "failed"
    return "interrupted" if any((run / "checkpoints").glob("[!.]*")) else "new"


def run_folder(root: Path, spec: Spec) -> Path:
    """Where `spec` lives under a results folder."""
    return root / "runs" / spec.id


def main(arguments: Sequence[str]) -> int:
    """`vocl plan SELECTOR`: list the runs with their state; warn about data or weights not found."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from launch.preflight import warnings

    selection = select(arguments)
    states = {spec.id: state(run_folder(selection.root, spec)) for spec in selection.specs}
    table = Table("row", "column", "seed", "run", "state", box=box.SIMPLE)
    for spec in selection.specs:
        table.add_row(spec.row, spec.column, str(spec.seed), spec.id, states[spec.id])
    console = Console()
    if not console.is_terminal:
        console = Console(
            width=max(80, table.__rich_measure__(Console(width=1000), Console(width=1000).options).maximum)
        )
    console.print(table)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(Counter(states.values()).items()))
    repeated = len(selection.specs) - len(states)
    print(
        f"{len(states)} runs: {counts}" + (f"; {repeated} more cells show one of these" if repeated else "")
    )
    for warning in warnings(selection.runs):
        print(f"warning: {warning}")
    return 0


def _is_word(argument: str) -> bool:
    return "=" not in argument and argument[:1] not in ("-", "+", "~", "")


def _values(override: str) -> list[str]:
    """The values of a comma list, or the one value."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
        return (
            list(parsed.sweep_string_iterator())
            if parsed.is_sweep_override()
            else [override.partition("=")[2]]
        )
    except HydraException as error:
        raise UserError(f"{override}: not an override (key=value): {str(error).splitlines()[0]}") from None


def _from_overrides(extras: list[str], swept: dict[str, list[str]]) -> list[Spec]:
    seeds = _seeds(swept.pop("seed", None))
    lists = [key for key, values in swept.items() if len(values) > 1]
    fixed = [o for o in extras if o.partition("=")[0] not in (*lists, "seed")]
    specs = []
    for values in itertools.product(*(swept[key] for key in lists)):
        varied = [f"{key}={value}" for key, value in zip(lists, values, strict=True)]
        specs += _cell([*fixed, *varied], seeds, " ".join(varied), "", "")
    return specs


def _from_ablation(chosen: Ablation, extras: list[str], swept: dict[str, list[str]]) -> list[Spec]:
    seeds = _seeds(swept.pop("seed", None)) or chosen.seeds
    for key, values in swept.items():
        if len(values) > 1:
            raise UserError(
                f"{key}={','.join(values)}: beside an ablation only seed takes a list; make it rows"
            )
    last = dict.fromkeys(o for o in extras if o.partition("=")[0] != "seed")
    debugged = _set_by_debug(swept.get("debug", ["none"])[0], project_of(extras))
    specs = []
    for column, row in itertools.product(chosen.columns, chosen.rows):
        own = {**chosen.base, **chosen.columns[column], **chosen.rows[row]}
        own = {key: value for key, value in own.items() if key not in (*debugged, *swept)}
        where = f"{chosen.path}: row {row!r}, column {column!r}"
        specs += _cell([*(f"{k}={v}" for k, v in own.items()), *last], seeds, row, column, where)
    return specs


def _set_by_debug(name: str, project: str | None) -> Overrides:
    """Keys that debug=NAME sets: it applies last, so an ablation's own values for them must give way."""
    if name in ("none", "null"):
        return {}
    content = ablations.read_yaml(ablations.find("debug", name, project))
    groups = [entry for entry in content.pop("defaults", []) if isinstance(entry, dict)]
    chosen = {key.removeprefix("override /"): str(value) for entry in groups for key, value in entry.items()}
    return ablations.flatten(content) | chosen


def _cell(overrides: list[str], seeds: list[int] | None, row: str, column: str, where: str) -> list[Spec]:
    """A spec per seed, from one composition unless something interpolates the seed."""
    with _named(where):
        if seeds is None:
            found = [configs.check(compose(overrides))]
        else:
            probe = configs.check(compose([*overrides, f"seed={PROBE}"]))
            rest = {key: value for key, value in probe.items() if key != "seed"}
            found = [probe | {"seed": seed} for seed in seeds]
            if str(PROBE) in json.dumps(rest):
                found = [configs.check(compose([*overrides, f"seed={seed}"])) for seed in seeds]
        return [Spec(configs.run_id(c), configs.cell_id(c), c, row, column, c["seed"]) for c in found]


def _seeds(values: list[str] | None) -> list[int] | None:
    try:
        return None if values is None else [int(value) for value in values]
    except ValueError:
        raise UserError(f"seed={','.join(values or [])}: expected whole numbers") from None


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Say which row and column a mistake comes from."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from None
