"""Shows a written table on a tracker: python -m vocl.tracking.table_process ROOT NAME MODE PROJECT ENTITY

A table is a run of type "table" that keeps its id: a later version is a further step of it. It shows the
cells, the page of `vocl report` and the pictures of rows, and keeps the files as the artifact table-NAME.
W&B's own reports need a package (wandb-workspaces) that its client does not bring; such a run can be put
into one by hand.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import sys
import tempfile
from pathlib import Path

from vocl.config.wandb_names import artifact_name, fitting
from vocl.files import open_regular
from vocl.rundir.results_root import ResultsRoot
from vocl.tracking import media
from vocl.tracking.client import Client, Ending, Opened
from vocl.tracking.media import Picture
from vocl.tracking.mirror_process import say
from vocl.tracking.trackio_client import TrackioClient
from vocl.tracking.wandb_client import WandbClient

SUFFIXES = (".md", ".csv", ".tex", ".html")
PAGES = ("report.html", "table.html")  # of `vocl report` and `vocl table`: the first that is there is shown
FINISH_S = 60.0


def command(root: ResultsRoot, name: str, mode: str, project: str, entity: str | None) -> list[str]:
    """The command that shows the table `name` of `root`; `mode`: online (W&B) or trackio."""
    arguments = [str(root.path.resolve()), name, mode, project, entity or ""]
    return [sys.executable, "-m", "vocl.tracking.table_process", *arguments]


def main(arguments: list[str]) -> int:
    """The process; returns 0, or 1 after saying in one line what is wrong."""
    voice = os.dup(1)  # the client prints; only our line may come out
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    root, name, mode, project, entity = arguments
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            if mode == "trackio":
                show(ResultsRoot(Path(root)), name, TrackioClient(project, ResultsRoot(Path(root)).trackio))
            else:
                client = WandbClient(Path(folder), "online", project, entity or None, FINISH_S)
                show(ResultsRoot(Path(root)), name, client)
        return 0
    except BaseException as error:
        say(voice, error)
        return 1


def show(root: ResultsRoot, name: str, client: Client) -> None:
    """Show the table `name` by `client`."""
    folder = root.tables / name
    files = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file() and not p.is_symlink())
    with open_regular(folder / "table.csv", links=False) as content:
        columns, *rows = csv.reader(io.TextIOWrapper(content, encoding="utf-8", newline=""))
    identity = hashlib.blake2s(name.encode(errors="surrogatepass"), digest_size=8).hexdigest()
    known = client.open(Opened(id=f"table-{identity}", name=fitting(f"table {name}"), kind="table"))
    step = known.step + 1
    client.tabulate(step, columns, rows)
    pictures = media.read(folder)
    pages = [path for page in PAGES for path in files if path.name == page][:1]
    shown = [*(Picture("report", path, name) for path in pages), *pictures]
    if shown:
        client.show(step + 1, shown)
    client.keep(artifact_name(f"table-{name}"), "table", [*files, *(picture.path for picture in pictures)])
    client.close(Ending(step=step + bool(shown), outcome="done", is_done=True, is_complete=True))


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)  # the client's exit hooks may wait for the network
