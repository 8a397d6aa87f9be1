"""One run in this process: from a checked config to its result, through any number of attempts."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import torch

from vocl import assemble, dist, loading
from vocl.config.run_config import RunConfig
from vocl.data.features.cache import mirror_images
from vocl.data.features.progress import Progress
from vocl.data.served import Served
from vocl.errors import RunIsTaken, UserError
from vocl.evaluate import score_table
from vocl.evaluate.probes.prober import Prober
from vocl.evaluate.store import Evaluated, evaluate
from vocl.files import sweep
from vocl.interface import Source
from vocl.ops.narrow import given
from vocl.ops.random import seed_of
from vocl.rundir.attempts import Attempts, result_of
from vocl.rundir.checkpoint import Checkpoints, State
from vocl.rundir.checkpoint_files import CheckpointFile
from vocl.rundir.lock import hold
from vocl.rundir.of_config import run_dir_of
from vocl.rundir.provenance import environment
from vocl.rundir.result import Rung
from vocl.rundir.results_root import root_of
from vocl.rundir.run_dir import JOBS, WANDB, RunDir
from vocl.stop import EXIT_STOPPED, Paused, StopFlag, Stopped, stop_on_signal
from vocl.tracking import crash, log, opening
from vocl.tracking.drawing import Draw, Sketch, draw_for
from vocl.trainer import Trainer

logger = logging.getLogger(__name__)


def run(
    config: RunConfig,
    asked: StopFlag | None = None,
    draw: Draw | None = None,
    sketch: Sketch | None = None,
) -> int:
    """Train and evaluate what `config` (checked) says, or go on with it; returns the exit code.

    `asked`: a flag that was set by a signal before (while this module was being imported, say).
    `draw`: called once the run is done, where a tracker is to be shown pictures; `sketch`: by each probe.

    0 done (also when it was done already), 1 crashed with a record, or trained with an evaluation that
    failed, 75 stopped and resumable.
    Raises `UserError`: before anything is written when something it needs is missing or another
    process has the run; later when an input turns out bad (with a record; it can be resumed).
    """
    log.configure()
    run_dir = run_dir_of(config)
    if run_dir.is_done():
        return _show(run_dir, config)
    if dist.is_first() and run_dir.has_damaged_result():
        logger.warning("%s: damaged, the run is evaluated again", run_dir.result_path)
    with stop_on_signal(asked) as stop:
        if stop:
            logger.info("stopped before it began; the same command starts it")
            return EXIT_STOPPED
        try:
            return _attempt(config, run_dir, stop, draw, sketch)
        finally:
            dist.stop()


def _attempt(
    config: RunConfig, run_dir: RunDir, stop: StopFlag, draw: Draw | None, sketch: Sketch | None
) -> int:
    device = prepare(config, run_dir)
    fresh = Checkpoints(run_dir.checkpoints).newest() is None
    try:
        trainer = make_trainer(config, run_dir, device, stop, fresh)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        with _claimed(run_dir, stop):
            crash.record(error, config, Attempts(run_dir))
        return 1
    with _claimed(run_dir, stop) as outcome:
        if run_dir.is_done():  # by another process, since `run` looked
            outcome.append("done")
            return _show(run_dir, config)
        attempts = Attempts(run_dir)
        attempts.number = dist.gather_objects(attempts.number)[0]
        try:
            _train(config, run_dir, trainer, attempts, sketch)
            _pause(config, run_dir, trainer)
            _finish(config, run_dir, trainer, attempts, draw)
            outcome.append("done")
        except Stopped as stopped:
            outcome.append("stopped")
            if dist.rank() == 0:
                attempts.end("stopped", detail=str(stopped), signal=stop.signal)
                how = "a later runtime.stop_at" if isinstance(stopped, Paused) else "the same command"
                logger.info("stopped at %s; %s goes on", stopped, how)
            return EXIT_STOPPED
        except UserError as error:
            with suppress(OSError):
                attempts.end("failed", dist.rank(), kind="UserError", message=str(error))
            logger.error("%s", error, extra=log.UNSHOWN)
            raise
        except (Exception, SystemExit) as error:
            crash.record(error, config, attempts)
            return 1
        finally:
            trainer.track.close()
    return _show(run_dir, config)


def prepare(config: RunConfig, run_dir: RunDir) -> torch.device:
    """Device, threads and process group. The thread count of the first attempt (on record) holds for
    all: sums of floats depend on it."""
    known = [start["threads"] for start in run_dir.starts() if start.get("threads")]
    threads = known[0] if known else config.runtime.threads
    if threads:
        torch.set_num_threads(threads)
    device = loading.pick_device(config.runtime.device)
    dist.start(device)
    return device


def make_trainer(
    config: RunConfig,
    run_dir: RunDir,
    device: torch.device,
    stop: StopFlag,
    fresh: bool,
    silent: bool = False,
) -> Trainer:
    """Everything a run needs, built from `config` and nothing else; writes nothing.

    `fresh`: weights start from `seed` and from files; else a checkpoint of `run_dir` is to fill them.
    `silent`: also its track never writes (a replay).
    """
    if complaints := assemble.missing_inputs(config, fresh):
        raise UserError("; ".join(complaints))
    torch.manual_seed(seed_of(config.seed, "weights"))
    source = assemble.make_source(config, "train") if config.loss else None
    model = assemble.make_model(config, pretrained=fresh)
    mute = silent or dist.rank() != 0
    trainer = assemble.make_trainer(config, model, source, device, stop, run_dir, mute)
    if trainer.source is not None:
        _refuse_other_videos(trainer.source)
        trainer.source = Served(trainer.source, assemble.clip_needs(config, trainer.model, training=True))
    if fresh and config.warm_start is not None:
        loading.warm_start(trainer.model, config.warm_start, config.runtime.root)
    for begins in trainer.curriculum.starts if config.loss else ():
        trainer.feed(begins).check()
    return trainer


def _refuse_other_videos(source: Source) -> None:
    """Refuse videos that are not the same on all ranks, as where one of them could not read a file: clip
    numbers would mean others there."""
    names = "\n".join(source[i].name for i in range(len(source)))
    digests = dist.gather_objects(hashlib.blake2s(names.encode(errors="surrogatepass")).hexdigest())
    if len(set(digests)) > 1:
        raise UserError(
            "dataset: the processes see different training videos; can all of them read all files?"
        )


def restore(trainer: Trainer, found: tuple[CheckpointFile, State] | None, run_dir: RunDir) -> int:
    """Put the trainer into the state of the checkpoint `found`, or of the first step; returns the step."""
    if found is None:
        trainer.frozen = trainer.frozen_now()
        return 0
    checkpoint, state = found
    trainer.frozen_digest = state["frozen"]
    frozen = trainer.checkpoints.load_frozen(state["frozen"])
    loading.fill(trainer.model, frozen | state["model"], run_dir)
    trainer.frozen = {name: tensor for name, tensor in frozen.items() if name not in state["model"]}
    if checkpoint.step < trainer.train.steps:  # an imported checkpoint has nothing to train on with
        trainer.restore(state)
    return checkpoint.step


def _train(
    config: RunConfig, run_dir: RunDir, trainer: Trainer, attempts: Attempts, sketch: Sketch | None
) -> None:
    """From the newest valid checkpoint to the last step, or to that of `runtime.stop_at`."""
    if dist.rank() == 0:
        # of those who submit and start this run, and of an earlier attempt's mirror
        sweep(run_dir.path, spare=(JOBS, WANDB))
        _keep_config(config, run_dir)
    found = trainer.checkpoints.newest()
    seen = dist.gather_objects(found and found[0].digest)
    assert len(set(seen)) == 1, f"the processes see different checkpoints: {seen}"
    start = restore(trainer, found, run_dir)
    if dist.rank() == 0:
        attempts.start(
            start,
            environment(str(trainer.device), torch.get_num_threads(), dist.world(), config.project),
        )
        if found is None:
            shared = root_of(run_dir).weights
            trainer.frozen_digest = trainer.checkpoints.save_frozen(trainer.frozen, shared)
        _introduce(config, run_dir, trainer, start)
    trainer.track.resume(start, attempts.number)
    if not config.loss or not trainer.train.steps:  # nothing is to be trained: a backbone alone, a control
        trainer.save(trainer.train.steps)
        return
    fill_cache(config, trainer)
    if config.runtime.probe_every and not config.eval:
        logger.warning("runtime.probe_every: there is no evaluation, so there are no probes")
    if config.runtime.probe_every and config.eval:
        trainer.probe = Prober(config, run_dir, trainer, _advance(trainer, "the probe"), sketch)
    steps = trainer.train.steps
    trainer.fit(range(start, min(steps, config.runtime.stop_at or steps)))


def _introduce(config: RunConfig, run_dir: RunDir, trainer: Trainer, start: int) -> None:
    """Say what the run is, as it begins or goes on."""
    parameters = [*trainer.model.parameters(), *trainer.objective.parameters()]
    weights = opening.counted(parameters, trainer.trainable.values())
    videos = len(trainer.source) if trainer.source is not None else 0, assemble.count_held_out(config)
    opening.say(run_dir, range(start, trainer.train.steps), trainer.device, videos, weights)


def fill_cache(config: RunConfig, trainer: Trainer) -> None:
    """Have the features of the frozen backbone lie ready, where runtime.feature_cache asks for them."""
    source = trainer.source
    assert isinstance(source, Served)  # there is something to train
    source.cache = assemble.feature_cache(
        config, source.source, "train", trainer.model, trainer.device, training=True
    )
    if source.cache is not None:
        mirrored = mirror_images(trainer.dataset.flip)
        source.cache.fill(mirrored, _advance(trainer, "the feature cache"), Progress("features of videos"))


def _keep_config(config: RunConfig, run_dir: RunDir) -> None:
    """Write the run's config, or check that it is the one that lies there."""
    if not run_dir.has_config():
        run_dir.write_config(config.content)
    kept = run_dir.config().run_id
    if kept != config.run_id:
        raise UserError(f"{run_dir.config_path}: was changed, it describes run {kept}; restore or remove it")


def _pause(config: RunConfig, run_dir: RunDir, trainer: Trainer) -> None:
    """Evaluate and leave, by raising `Paused`, where the run is not to train to its end yet."""
    if config.runtime.stop_at is None or given(trainer.checkpoints.newest())[0].step == trainer.train.steps:
        return
    reached, found = _scored(config, run_dir, trainer)
    if dist.rank() == 0:
        run_dir.write_rung(Rung(reached.step, found.entries, found.failed))
    dist.barrier()
    raise Paused(f"step {reached.step} of {trainer.train.steps}, as runtime.stop_at says")


def _scored(config: RunConfig, run_dir: RunDir, trainer: Trainer) -> tuple[CheckpointFile, Evaluated]:
    """What the evaluations say of the newest checkpoint, which is that of the model as it is."""
    advance = _advance(trainer, "the evaluation")
    newest, _ = given(trainer.checkpoints.newest())
    trainer.begin(max(newest.step - 1, 0))
    advance()
    return newest, evaluate(config, trainer.model, newest.digest, run_dir, trainer.device, advance)


def _finish(
    config: RunConfig, run_dir: RunDir, trainer: Trainer, attempts: Attempts, draw: Draw | None
) -> None:
    """Evaluate, then write the result: its presence means done, whatever an evaluation met.

    The result comes before the end of the attempt: a process killed between the two has left a run that is
    done, while an attempt that was said to be done without one would be done again.
    """
    final, found = _scored(config, run_dir, trainer)
    assert final.step == trainer.train.steps, final
    if dist.rank() == 0:
        on_gpu = trainer.device.type == "cuda"
        device = torch.cuda.get_device_name(trainer.device) if on_gpu else "cpu"
        until = time.time()
        result = result_of(config, run_dir, device, attempts, until)
        run_dir.write_result(result.with_evals(found.entries, found.failed, config.eval))
        with suppress(OSError):  # of a disk that is full by now
            attempts.end("done", time=until, wall_s=until - attempts.began)
        logger.info("done in attempt %d, after %.0f s", attempts.number, until - attempts.began)
        draw_for(trainer.track, draw, config, trainer.model, run_dir, trainer.device, trainer.stop)
    dist.barrier()  # a rank that leaves before the result is there would take the others with it if it fails


def _advance(trainer: Trainer, run_dir: str) -> Callable[[], None]:
    """What every rank calls now and then outside of training: gives a sign of life, stops if asked."""

    def advance() -> None:
        trainer.track.alive()
        if dist.any_of(bool(trainer.stop)):
            raise Stopped(run_dir)

    return advance


def _show(run_dir: RunDir, config: RunConfig) -> int:
    """Print the scores; says so when they are not by the evaluation that was asked for now. Returns 1 where
    an evaluation of the run failed."""
    found = run_dir.result()
    failed = found.failed
    if dist.is_first():
        score_table.show(run_dir)
        reports = [run_dir.report(entry["eval_id"]) for entry in found.evals.values()]
        stored = [report and report["eval"] for report in reports]
        other = [
            name
            for name, settings in config.eval.items()
            if None not in stored and settings.content not in stored and name not in failed
        ]
        if other:
            logger.warning(
                "eval.%s was asked for with other settings than these scores have; "
                "to add it: vocl eval %s eval.%s.<key>=<value>",
                *(other[0], run_dir.id, other[0]),
            )
    return 1 if failed else 0


@contextmanager
def _claimed(run_dir: RunDir, stop: StopFlag) -> Iterator[list[str]]:
    """Within the block rank 0 holds the run (see `hold`); what it is refused, all ranks refuse."""
    with ExitStack() as stack:
        refusal, outcome = None, []
        if dist.rank() == 0:
            try:
                outcome = stack.enter_context(hold(run_dir, stop))
                outcome.append("withdrawn")  # where its log cannot be written it has never run
                stack.enter_context(log.kept(run_dir.log_path))
                outcome.pop()
            except UserError as error:
                refusal = (RunIsTaken if isinstance(error, RunIsTaken) else UserError, str(error))
        refusal = dist.gather_objects(refusal)[0]
        if refusal is not None:
            kind, message = refusal
            raise kind(message)
        yield outcome
