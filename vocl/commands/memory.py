"""`python -m vocl.commands.memory CONFIG PROCESSES [GPU_GB]`: what training would take of a GPU.

For `vocl plan --memory`, in a process of its own: it imports torch, which a plan does without. Prints a
JSON list with an object for each stage.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from vocl.command_line.exit_codes import exit_code
from vocl.rundir import saved_config


def main(words: list[str]) -> int:
    """Print it; returns 0."""
    from vocl.dryrun import memory

    path, processes, *gpu_gb = words
    config = saved_config.read(Path(path))
    gpu_bytes = int(float(gpu_gb[0]) * 1e9) if gpu_gb else None
    print(json.dumps([asdict(stage) for stage in memory.of_training(config, gpu_bytes, int(processes))]))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(lambda: main(sys.argv[1:])))
