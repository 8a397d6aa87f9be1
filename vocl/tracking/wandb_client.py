"""The client of W&B: one run or table there, and a run of vocl whose client folders are sealed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vocl.rundir.run_dir import RunDir
from vocl.tracking import sealed
from vocl.tracking.client import Ending, Known, Opened, Row
from vocl.tracking.media import Picture

Mode = Literal["offline", "online"]
# Nothing about the machine, its environment or the checkout leaves through the client.
ALWAYS: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "save_code": False,
    "host": "",
    "program": "",
    "silent": True,
    "x_disable_machine_info": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_executable": "",
    "x_save_requirements": False,
    "init_timeout": 20.0,
}


class WandbClient:
    """W&B, with the client's files in `folder`/wandb; `finish_s`: how long it may upload at the end."""

    def __init__(self, folder: Path, mode: Mode, project: str, entity: str | None, finish_s: float) -> None:
        self.folder, self.mode, self.project, self.entity = folder, mode, project, entity
        self.finish_s = finish_s
        self.run: Any = None

    def open(self, opened: Opened) -> Known:
        """Open the run."""
        import wandb

        wait_for_second()
        settings = ALWAYS | {"finish_timeout": self.finish_s}
        self.run = wandb.init(
            mode=self.mode,
            dir=str(self.folder),
            id=opened.id,
            resume="allow",
            project=self.project,
            entity=self.entity,
            group=opened.group,
            job_type=opened.kind,
            name=opened.name,
            config=opened.config,
            allow_val_change=True,
            settings=wandb.Settings(
                **{k: v for k, v in settings.items() if k in wandb.Settings.model_fields}
            ),
        )
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")
        return Known(step=self.run.starting_step - 1)

    def log(self, step: int, row: Row, pictures: Sequence[Picture] = ()) -> None:
        """Show a row, and pictures and pages, which the client copies into its folder."""
        import wandb

        def media(one: Picture) -> Any:
            if one.is_video:
                return wandb.Video(str(one.path), caption=one.caption, format="mp4")
            if one.is_page:
                return wandb.Html(str(one.path), inject=False)
            return wandb.Image(str(one.path), caption=one.caption)

        self.run.log(row | {one.key: media(one) for one in pictures}, step=step, commit=True)

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Show pictures and pages."""
        self.log(step, {"step": step}, pictures)

    def tabulate(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""
        import wandb

        self.log(step, {"step": step, "table": wandb.Table(list(columns), [list(row) for row in rows])})

    def keep(self, name: str, kind: str, files: Sequence[Path]) -> None:
        """Keep an artifact; the files are read where they lie, not copied."""
        import wandb

        artifact = wandb.Artifact(name, kind)
        for file in files:
            artifact.add_file(str(file), policy="immutable", skip_cache=True)
        self.run.log_artifact(artifact)

    def close(self, ending: Ending) -> None:
        """Finish the run."""
        self.run.summary.update(ending.scores)
        self.run.summary["outcome"] = ending.outcome
        if ending.outcome == "stopped":
            self.run.mark_preempting()
        self.run.finish(exit_code=0 if ending.is_done else 1)


class SealedWandbClient(WandbClient):
    """A run of vocl on W&B, which is one run there for ever: the same id through all attempts.

    Which rows a finished folder of the client holds is sealed. An attempt goes on after the last sealed
    row (offline) or after the last row that the server has (online), so no step appears twice. An offline
    folder that was not sealed, because its writer was killed or wrote rows that a resume may cut back, is
    dropped and written again.
    """

    def __init__(self, run: RunDir, mode: Mode, project: str, entity: str | None, finish_s: float) -> None:
        super().__init__(run.path, mode, project, entity, finish_s)
        self.run_dir, self.pictures, self.files = run, False, list[str]()

    def open(self, opened: Opened) -> Known:
        """Open the run; on an error online no new folder stays."""
        run = self.run_dir
        sealed.drop_unsealed(run, "offline-run-*")
        before = set(run.wandb.glob("run-*"))
        try:
            of_server = super().open(opened)
        except Exception:
            for path in set(run.wandb.glob("run-*")) - before:
                shutil.rmtree(path, ignore_errors=True)  # no row is in it
            raise
        return of_server if self.mode == "online" else sealed.known(run)

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Show pictures and pages."""
        super().show(step, pictures)
        self.pictures = True

    def keep(self, name: str, kind: str, files: Sequence[Path]) -> None:
        """Keep an artifact."""
        super().keep(name, kind, files)
        self.files += [file.name for file in files]

    def close(self, ending: Ending) -> None:
        """Finish the run; seal it where its rows are sure to hold."""
        name = Path(self.run.dir).parent.name
        super().close(ending)
        if not ending.is_complete:
            return
        held = {"step": ending.step, "pictures": self.pictures, "files": self.files}
        sealed.seal(self.run_dir, name, held | ending.record)
        if self.mode == "online":  # the server has all that is on disk
            sealed.drop_unsealed(self.run_dir, "run-*")
            for path in self.run_dir.wandb.glob("offline-run-*/*.wandb"):
                path.with_suffix(".wandb.synced").touch()


def wait_for_second() -> None:
    """Sleep into the next second: the client names its folders by it."""
    time.sleep(1.001 - time.time() % 1)
