"""`vocl fill`: whatever a table lacks. Runs that are absent are submitted, those that failed or were
interrupted go on, and evaluations that a trained run lacks are added on this machine."""

from __future__ import annotations

import subprocess
import sys

from launch.ablations.overrides import in_grammar
from launch.commands import retry
from launch.commands.submit import submit
from launch.run_states.states import look
from launch.selection.plan import Selection, Spec, select
from launch.selection.selector import of_selection
from vocl.command_line import defaults
from vocl.command_line.verb import ABLATIONS, GROUPS, SELECTOR, Line, verb, words
from vocl.config.grammar import setting
from vocl.rundir.run_dir import RunDir

EVAL = (sys.executable, "-m", "vocl.commands.launching", "eval")


@verb("fill")
@words("SELECTOR", SELECTOR, required=True, takes=defaults.PLACED, offers=(ABLATIONS, GROUPS))
def main(line: Line) -> int:
    """Do whatever the runs of SELECTOR lack: train, go on, evaluate.

    Repeat it once what it has queued is over: evaluations can be added to trained runs only. Returns 0;
    1 when SLURM refused, or something failed here; 75 when stopped.
    """
    selection = select(line.words)
    target = of_selection(selection)
    # as it was before: what this very fill trains here, and in vain, is not tried a second time
    states, trouble = look(target.root, target.runs)
    code = submit(selection, ("absent",))
    if code in (0, 1):
        if trouble:
            print(f"not submitted: {trouble}", file=sys.stderr)
            return 1
        lost = {e.id: e for e in target.entries if states[e.id].name in retry.STATES}
        code = max(code, retry.again(target, list(lost.values()), states, line.typed))
    if code in (0, 1):
        code = max(code, _evaluate(selection))
    return code


def _evaluate(selection: Selection) -> int:
    """Add the evaluations that finished runs lack, one process each; 0, or the worst exit code."""
    root, worst = selection.root.absolute(), 0
    lacking: dict[tuple[str, ...], str] = {}
    for spec in selection.specs:
        for name, asked in missing_evaluations(root.run(spec.id), spec).items():
            lacking[spec.id, *asked] = f"{spec.label}): {name}"
    for number, ((run, *overrides), label) in enumerate(lacking.items(), 1):
        print(f"evaluation {number} of {len(lacking)}: {run} ({label}", flush=True)
        done = subprocess.run([*EVAL, run, *overrides, setting("runtime.root", root)])
        worst = max(worst, done.returncode if done.returncode > 0 else abs(done.returncode) and 1)
    return worst


def missing_evaluations(run: RunDir, spec: Spec) -> dict[str, tuple[str, ...]]:
    """For each evaluation that `spec` asks for and the finished `run` has not: the overrides
    by which `vocl eval` adds it, with all of its settings."""
    found = run.result_or_none()
    if found is None:
        return {}
    reports = run.reports(found.evals)
    stored = [report["eval"] for report in reports.values()]
    return {
        name: ("eval=[]", f"+eval.{name}={in_grammar(settings.content)}")
        for name, settings in spec.config.eval.items()
        if settings.content not in stored
    }
