"""From a selector to runs that do not exist yet: composed, checked, signed. No side effect."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace

from launch.ablations import ablation as ablations
from launch.ablations.ablation import Ablation
from launch.ablations.overrides import Overrides, flatten, in_grammar, read_mapping
from launch.ablations.rows import Variant, sources_first
from launch.escape import one_line
from launch.selection import sweeps
from launch.selection.metric_names import refuse_unknown_metrics, refuse_unknown_protocol
from launch.selection.submitted import is_word
from launch.slurm.request import check_request
from vocl.config import schema
from vocl.config.cluster import LocalCluster, SlurmCluster
from vocl.config.compose import checked, project_of
from vocl.config.compose_many import Composer
from vocl.config.grammar import quoted
from vocl.config.proof.coerce import coerce
from vocl.config.run_config import RunConfig
from vocl.config.schema import Config
from vocl.errors import UserError
from vocl.rundir.of_config import cell_of
from vocl.rundir.results_root import ResultsRoot

PROBE = 602214076  # a seed nobody chooses: shows whether anything else in a config depends on the seed


@dataclass(frozen=True)
class Spec:
    """One run before it exists, and the place in a table that wants it."""

    id: str
    cell: str
    config: RunConfig
    row: str
    column: str
    seed: int
    after: str | None = None  # id of the run whose weights it starts from, where that is a row of the table
    frozen: Config | None = None  # of a run that was submitted before: its config as it was saved then

    @property
    def content(self) -> Config:
        """What is saved of its config: of a run that was submitted before, by another version perhaps, in
        the keys of then, for it runs the code of then."""
        return self.config.content if self.frozen is None else self.frozen

    @property
    def label(self) -> str:
        """Row, column and seed, for people."""
        return one_line(", ".join(part for part in (self.row, self.column, f"seed {self.seed}") if part))


@dataclass(frozen=True)
class Selection:
    """What a command line selects: a spec per row, column and seed (ids may repeat)."""

    specs: list[Spec]
    ablation: Ablation | None
    arguments: tuple[str, ...]

    @property
    def root(self) -> ResultsRoot:
        """The results folder, the same for all."""
        roots = {spec.config.runtime.root for spec in self.specs}
        if len(roots) > 1:
            raise UserError(f"runtime.root: one command writes to one folder, not {', '.join(sorted(roots))}")
        return ResultsRoot.of(roots.pop())

    @property
    def runs(self) -> list[Spec]:
        """One spec per id: a run that several cells want is trained once."""
        return list({spec.id: spec for spec in reversed(self.specs)}.values())[::-1]


def select(arguments: Sequence[str]) -> Selection:
    """The specs of `ablation=NAME [overrides]` (a bare word is an ablation) or of plain overrides.

    Overrides beside an ablation apply to all of its runs, after everything its file says. Comma
    lists (`seed=0,1,2`) expand to several runs; beside an ablation only seeds do. Groups are chosen
    per run: `cluster=local,mine` is two runs in two places. `NAME=zip(key=[a,b],other=[c,d])` pairs values.
    """
    if not arguments:
        raise UserError("no selector: give an ablation's name or Hydra overrides, e.g. demo or seed=0,1,2")
    names = [a.removeprefix("ablation=") for a in arguments if a.startswith("ablation=") or is_word(a)]
    plain = [a for a in arguments if not a.startswith("ablation=") and not is_word(a)]
    extras = [a if sweeps.is_zip(a) else quoted(a) for a in plain]
    if len(names) > 1:
        raise UserError(f"{' '.join(names)}: choose one ablation")
    zips = [sweeps.zipped(o, [e for e in extras if e != o]) for o in extras if sweeps.is_zip(o)]
    extras = [o for o in extras if not sweeps.is_zip(o)]
    swept = {o.partition("=")[0]: sweeps.values(o, project_of(extras)) for o in extras}
    if not names:
        return Selection(_from_overrides(extras, swept, zips), None, tuple(arguments))
    if zips:
        raise UserError(f"{names[0]}: beside an ablation only seed takes a list; write `zip` into its file")
    chosen = ablations.read(names[0], project_of(extras))
    return Selection(_from_ablation(chosen, extras, swept), chosen, tuple(arguments))


def select_jobs(jobs: Sequence[Sequence[str]]) -> Selection:
    """A spec per list of overrides, without comma lists: the jobs of Hydra's launchers."""
    composer, specs = Composer(), []
    for job in jobs:
        row = " ".join(o for o in job if not o.startswith("seed="))
        specs += _Cell(tuple(job), row, "", "").specs(composer, None)
    return Selection(specs, None, tuple(dict.fromkeys(o for job in jobs for o in job)))


def select_cell(overrides: Sequence[str], label: str, seeds: Sequence[int], composer: Composer) -> list[Spec]:
    """A spec per seed of `overrides` without comma lists, as row `label`, which names them in errors."""
    return _Cell(tuple(overrides), label, "", label).specs(composer, seeds)


def seeds_in(arguments: Iterable[str]) -> list[int] | None:
    """The seeds that the last seed=... of `arguments` says, comma lists and ranges too; None without one."""
    given = [argument for argument in arguments if argument.startswith("seed=")]
    return _seeds(sweeps.values(given[-1], None)) if given else None


def _from_overrides(
    extras: list[str], swept: dict[str, list[str]], zips: list[list[tuple[str, ...]]]
) -> list[Spec]:
    seeds = _seeds(swept.pop("seed", None))
    lists = [key for key, values in swept.items() if len(values) > 1]
    fixed = [o for o in extras if o.partition("=")[0] not in (*lists, "seed")]
    axes: list[list[tuple[str, ...]]] = [[(f"{key}={value}",) for value in swept[key]] for key in lists]
    composer, specs = Composer(), []
    for steps in itertools.product(*axes, *zips):
        varied = [override for step in steps for override in step]
        row = " ".join(override for override in varied if not override.startswith("seed="))
        specs += _Cell((*fixed, *varied), row, "", "").specs(composer, seeds)
    return specs


def _from_ablation(chosen: Ablation, extras: list[str], swept: dict[str, list[str]]) -> list[Spec]:
    seeds = _seeds(swept.pop("seed", None)) or chosen.seeds
    for key, values in swept.items():
        if len(values) > 1:
            raise UserError(
                f"{key}={','.join(values)}: beside an ablation only seed takes a list; make it rows or a grid"
            )
    last = dict.fromkeys(o for o in extras if o.partition("=")[0] != "seed")
    given = {*_set_by_debug(swept.get("debug", ["none"])[0], project_of(extras)), *swept}
    composer = Composer()
    found: dict[tuple[str, str], list[Spec]] = {}
    rows = sources_first(chosen.rows, f"{chosen.path}: rows")
    for column, row in itertools.product(chosen.columns.values(), rows):
        own = {key: value for key, value in chosen.overrides(row, column).items() if key not in given}
        where = f"{chosen.path}: row {row.label!r}, column {column.label!r}"
        with _named(where):
            own = _for_its_cluster(own, tuple(last), composer)
        cell = _Cell((*_spelt(own), *last), row.label, column.label, where)
        kept = [seed for seed in seeds if chosen.keeps(row, column, seed)]
        if row.warm_start and kept and not any(key.partition(".")[0] == "warm_start" for key in swept):
            sources = found[column.label, row.warm_start.row]
            found[column.label, row.label] = cell.warm_specs(composer, kept, row, sources)
        else:
            found[column.label, row.label] = cell.specs(composer, kept) if kept else []
    specs = [spec for place in itertools.product(chosen.columns, chosen.rows) for spec in found[place]]
    refuse_unknown_metrics(chosen.path, chosen.metrics, specs)
    refuse_unknown_protocol(f"{chosen.path}: table.protocol", chosen.table.protocol, specs)
    return specs


def _for_its_cluster(own: Overrides, last: tuple[str, ...], composer: Composer) -> Overrides:
    """`own` without what it asks of another kind of cluster than the runs go to: a table that says what its
    runs need of SLURM can be trained on this machine too."""
    of_one_kind = {field.name for field in (*fields(LocalCluster), *fields(SlurmCluster))} - {"kind", "wait"}
    asked = {key: key.split(".")[1] for key in own if key.startswith("cluster.")}
    asked = {key: name for key, name in asked.items() if name in of_one_kind}
    if not asked:
        return own
    rest = {key: value for key, value in own.items() if key not in asked}
    known = composer.compose([*_spelt(rest), *last])["cluster"]
    return {key: value for key, value in own.items() if asked.get(key) in (None, *known)}


def _spelt(overrides: Overrides) -> Iterator[str]:
    return (f"{key}={value}" for key, value in overrides.items())


def _set_by_debug(name: str, project: str | None) -> Overrides:
    """Keys that debug=NAME sets: it applies last, so an ablation's own values for them must give way."""
    if name in ("none", "null"):
        return {}
    content = read_mapping(ablations.find("debug", name, project))
    groups = [entry for entry in content.pop("defaults", []) if isinstance(entry, dict)]
    chosen = {key.removeprefix("override /"): str(value) for entry in groups for key, value in entry.items()}
    return flatten(content) | chosen


@dataclass(frozen=True)
class _Cell:
    """A place in the table before its seeds; `where` names it in errors."""

    overrides: tuple[str, ...]
    row: str
    column: str
    where: str

    def specs(self, composer: Composer, seeds: Sequence[int] | None) -> list[Spec]:
        """A spec per seed, from one composition unless something interpolates the seed."""
        with _named(self.where):
            if seeds is None:
                return [self._spec(_checked(composer, self.overrides))]
            probe = _checked(composer, [*self.overrides, f"seed={PROBE}"])
            if str(PROBE) in json.dumps(replace(probe, seed=0).content):
                lists = [[*self.overrides, f"seed={seed}"] for seed in seeds]
                return [self._spec(_checked(composer, each)) for each in lists]
            cell = cell_of(probe.content)
            checked = [coerce(seed, schema.SEED, "seed", {}) for seed in seeds]
            return [self._spec(replace(probe, seed=seed), cell) for seed in checked]

    def warm_specs(
        self, composer: Composer, seeds: Sequence[int], row: Variant, sources: Sequence[Spec]
    ) -> list[Spec]:
        """A spec per seed, each starting from the run of `sources` with its seed."""
        assert row.warm_start is not None
        by_seed, found = {spec.seed: spec for spec in sources}, []
        for seed in seeds:
            if (source := by_seed.get(seed)) is None:
                raise UserError(
                    f"{self.where}: warm_start.row={row.warm_start.row}: has no run of seed {seed} here"
                )
            warm = in_grammar({"run": source.id, "take": row.warm_start.take})
            cell = replace(self, overrides=(*self.overrides, f"warm_start={warm}"))
            for spec in cell.specs(composer, [seed]):
                group = spec.config.cell_id(source.cell)
                found.append(replace(spec, after=source.id, cell=group))
        return found

    def _spec(self, config: RunConfig, cell: str | None = None) -> Spec:
        cell = cell or cell_of(config.content)
        return Spec(config.run_id, cell, config, self.row, self.column, config.seed)


def _checked(composer: Composer, overrides: Sequence[str]) -> RunConfig:
    config = checked(composer.compose(overrides), overrides)
    check_request(config)
    return config


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
