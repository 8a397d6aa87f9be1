"""What tests of trackers share: patience with real clients, and a look into trackio's files."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from vocl.tracking import mirror

with_trackio = pytest.mark.skipif(importlib.util.find_spec("trackio") is None, reason="vocl[trackio]")


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """A machine that is shared may need longer to start a client than a user wants to wait."""
    monkeypatch.setattr(mirror, "FLUSH_S", 40.0)
    for name in [name for name in os.environ if name.startswith(("WANDB_", "TRACKIO_"))]:
        monkeypatch.delenv(name)


def of_trackio(place, project="vocl"):
    """{name: rows} of the runs that trackio has in the folder `place`."""
    code = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as S; "
        f"print(json.dumps({{r['name']: S.get_logs({project!r}, r['name'], run_id=r['id']) "
        f"for r in S.get_run_records({project!r})}}))"
    )
    environment = mirror.environment() | {"TRACKIO_DIR": str(place)}
    return json.loads(subprocess.check_output([sys.executable, "-c", code], env=environment))
