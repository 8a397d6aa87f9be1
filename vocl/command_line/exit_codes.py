"""How every command ends: its exit code, and a user's mistake in one line. Imports no click, which costs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from vocl.errors import EXIT_USER, RunIsTaken, UserError, say_everything
from vocl.stop import EXIT_STOPPED, EXIT_TAKEN


def exit_code(command: Callable[[], int]) -> int:
    """Run `command`; returns the exit code: its own, 2 for the user's mistake, 75 stopped."""
    say_everything()
    try:
        return command()
    except UserError as error:
        print(error, file=sys.stderr)
        return EXIT_TAKEN if isinstance(error, RunIsTaken) and _is_of_a_job() else EXIT_USER
    except KeyboardInterrupt:
        return EXIT_STOPPED
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.filename is None:
            raise
        print(UserError(f"{error.filename}: {error.strerror or error}"), file=sys.stderr)
        return EXIT_USER


def _is_of_a_job() -> bool:
    """Whether a job's agent has started this process, and reads its exit code."""
    from vocl.rundir.lock import CLAIM

    return CLAIM in os.environ
