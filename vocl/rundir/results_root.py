"""The results folder (`runtime.root`): its runs, and what they share. Imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vocl.errors import UserError
from vocl.files import user_path
from vocl.rundir.run_dir import RunDir

RUNS = "runs"
SHOWN = 8  # ids in a message


@dataclass(frozen=True)
class ResultsRoot:
    """The results folder `path`, which need not exist."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def of(cls, root: str | Path) -> ResultsRoot:
        """The one that somebody wrote, with ~ read as a shell does."""
        return cls(user_path(root))

    @property
    def runs_path(self) -> Path:
        """The folder with a folder per run, by its id."""
        return self.path / RUNS

    @property
    def ledger(self) -> Path:
        """The folder with a record per submission: `launch.slurm.ledger`."""
        return self.path / "ledger"

    @property
    def snapshots(self) -> Path:
        """The folder with the code that jobs run: `launch.submission.snapshot`."""
        return self.path / "snapshots"

    @property
    def by_name(self) -> Path:
        """The folder with submitted tables and links to their runs: `launch.selection.submitted`."""
        return self.path / "by-name"

    @property
    def weights(self) -> Path:
        """The folder of frozen weights that runs share: `vocl.rundir.checkpoint`."""
        return self.path / "weights"

    @property
    def features(self) -> Path:
        """The folder of features that runs share: `vocl.data.features`."""
        return self.path / "features"

    @property
    def trackio(self) -> Path:
        """The folder of trackio's files, unless the user's TRACKIO_DIR says another: `vocl.tracking`."""
        return self.path / "trackio"

    @property
    def tables(self) -> Path:
        """The folder of written tables: `launch.tables`."""
        return self.path / "tables"

    @property
    def searches(self) -> Path:
        """The folder with the trials of searches: `launch.search.records`."""
        return self.path / "search"

    @property
    def folders(self) -> list[Path]:
        """All of them."""
        shared = [self.ledger, self.snapshots, self.by_name, self.weights, self.features, self.tables]
        return [self.runs_path, *shared, self.searches]

    def absolute(self) -> ResultsRoot:
        """The same by an absolute path."""
        return ResultsRoot(self.path.absolute())

    def run(self, run_id: str) -> RunDir:
        """The run of an id, be there one or not."""
        return RunDir(self.runs_path / run_id)

    def run_ids(self) -> list[str]:
        """Ids of the runs that have a folder; raises `OSError` where that cannot be read."""
        try:
            return sorted(e.name for e in os.scandir(self.runs_path) if e.name[0] != "." and _is_folder(e))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def find(self, word: str) -> RunDir:
        """The run that `word` names: an id, the beginning of one alone, or a run's folder. An id goes before
        a folder of that name, such as an export made here.

        Raises `UserError` with what there is.
        """
        known = self.run_ids()
        found = [run for run in known if run == word] or [r for r in known if word and r.startswith(word)]
        if len(found) == 1:
            return self.run(found[0])
        if found:
            raise UserError(f"{word}: several runs begin so: {', '.join(found)}")
        other = RunDir(user_path(word))
        if word and other.has_config():
            return other
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        there = (", ".join(known[:SHOWN]) or "none") + more
        raise UserError(f"{word}: neither a run folder nor a run id in {self.runs_path}; there are {there}")

    def find_trusted(self, word: str) -> RunDir:
        """As `find`, unless it is a run whose code may not be imported: one from elsewhere is data, and
        brings neither code nor links."""
        run = self.find(word)
        if self.is_foreign(run):
            _refuse_foreign(run, self.runs_path)
        return run

    def is_foreign(self, run: RunDir) -> bool:
        """Whether `run` is none of this results folder."""
        return run.path.resolve().parent != self.runs_path.resolve()


def root_of(run: RunDir) -> ResultsRoot:
    """The results folder in which `run` lies."""
    return ResultsRoot(run.path.parent.parent)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # somebody has to see to it
        return True


def _refuse_foreign(run: RunDir, runs: Path) -> None:
    """A run folder from elsewhere may not bring its own list of code that may be imported, nor links
    by which what is written into it would land elsewhere."""
    if run.config_as_saved().get("project") is not None:
        raise UserError(
            f"{run.config_path}: names code of its own (project); if you trust it, move it to {runs}"
        )
    for place, folders, files in os.walk(run.path):
        for name in (*folders, *files):
            if os.path.islink(os.path.join(place, name)):
                raise UserError(
                    f"{place}/{name}: is a link; a run folder from elsewhere may have none, "
                    f"if you trust it, move it to {runs}"
                )
