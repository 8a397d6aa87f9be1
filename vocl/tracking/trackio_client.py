"""The client of trackio, which keeps its files on this machine and needs no account."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vocl.config.wandb_names import fitting
from vocl.files import refuse_planted
from vocl.tracking.client import Ending, Known, Opened, Row
from vocl.tracking.media import Picture

NAME_CHARACTERS = 60  # of a name, which is a folder's too: at most four bytes each


class TrackioClient:
    """trackio, with its files in the folder of the variable TRACKIO_DIR, else in `folder`."""

    def __init__(self, project: str, folder: Path) -> None:
        self.project = project
        if "TRACKIO_DIR" not in os.environ:
            refuse_planted(folder)
            os.environ["TRACKIO_DIR"] = str(folder)
        self.run: Any = None
        self.last = -1

    def open(self, opened: Opened) -> Known:
        """Open the run; a run there is found by its name alone, so the id is part of it."""
        import trackio

        config = {key: value for key, value in opened.config.items() if not key.startswith("_")}
        self.run = trackio.init(
            self.project,
            name=self._name(opened),
            group=opened.group or opened.kind,
            config=config,
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        self.last = max((row["step"] for row in self._rows()), default=-1)
        return Known(step=self.last)

    def log(self, step: int, row: Row, pictures: Sequence[Picture] = ()) -> None:
        """Show a row, and pictures, which trackio copies into its folder."""
        import trackio

        def media(one: Picture) -> Any:
            if one.is_page:
                return trackio.Html(str(one.path), inject=False, caption=one.caption)
            return (trackio.Video if one.is_video else trackio.Image)(str(one.path), caption=one.caption)

        shown = {one.key: media(one) for one in pictures}
        self.run.log({key: value for key, value in row.items() if key != "step"} | shown, step=step)
        self.last = step

    def show(self, step: int, pictures: Sequence[Picture]) -> None:
        """Show pictures and pages."""
        self.log(step, {}, pictures)

    def tabulate(self, step: int, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table."""
        import trackio

        self.log(step, {"table": trackio.Table(columns=list(columns), data=[list(row) for row in rows])})

    def keep(self, name: str, kind: str, files: Sequence[Path]) -> None:
        """Keep an artifact, which trackio copies into its folder."""
        import trackio

        artifact = trackio.Artifact(name=name, type=kind)
        for file in files:
            artifact.add_file(str(file))
        self.run.log_artifact(artifact)

    def close(self, ending: Ending) -> None:
        """Show the scores that it lacks; trackio keeps quiet where it cannot write, so look."""
        from trackio import utils

        scores = {k: v for k, v in ending.scores.items() if isinstance(v, int | float)}
        if scores and not any(scores.items() <= row.items() for row in self._rows()):
            self.log(max(self.last, ending.step + 1), scores)
        self.run.finish()
        # on a network file system it writes fragments, which its dashboard takes in
        if utils.get_storage_mode() == "sqlite" and self.last not in [row["step"] for row in self._rows()]:
            raise OSError(f"trackio has not kept step {self.last} in {utils.TRACKIO_DIR}")

    def _name(self, opened: Opened) -> str:
        """The name that the run has there, or is to have."""
        from trackio.sqlite_storage import SQLiteStorage

        known = [str(record["name"]) for record in SQLiteStorage.get_run_records(self.project)]
        name = f"{fitting(opened.name, NAME_CHARACTERS)} {opened.id}"
        return next((other for other in known if other.endswith(f" {opened.id}")), name)

    def _rows(self) -> list[dict[str, Any]]:
        """What trackio has of the run."""
        from trackio.sqlite_storage import SQLiteStorage

        return SQLiteStorage.get_logs(self.project, self.run.name, run_id=self.run.id)
