"""The training loop. It knows steps, stages, terms and checkpoints, and no method's name."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from vocl import dist
from vocl.config.sections import Dataset, Runtime, Train
from vocl.curriculum import Curriculum, FeedSpec
from vocl.data import loaders
from vocl.data.feed import Feed
from vocl.errors import NonFinite, UserError
from vocl.interface import Clip, Output, Source, VideoModel
from vocl.nn.execution.compiled import compiling, refuse_without_compiler
from vocl.nn.execution.fp8 import refuse_without_fp8
from vocl.nn.execution.precision import autocast, set_tf32
from vocl.objective import Objective
from vocl.ops.narrow import given
from vocl.ops.random import seed_of
from vocl.ops.readback import Readback
from vocl.optim import Optimizer, clip_on_device
from vocl.rundir.checkpoint import Checkpoints, State
from vocl.stop import StopFlag, Stopped
from vocl.tracking.profile import Profiler
from vocl.tracking.track import Track


@dataclass(frozen=True)
class Taken:
    """What a step says about itself, over all ranks."""

    loss: float
    terms: dict[str, float]
    norm: float  # of the gradient, before clipping
    stop: bool  # whether a rank was asked to stop


@dataclass(frozen=True)
class Launched:
    """A step that was given to the device, and what it will say: `numbers` are norm, loss, stop, terms."""

    step: int
    clips: tuple[str, ...]  # names of this rank's
    output: Output | None  # None where nobody will look at it
    terms: tuple[str, ...]
    numbers: Readback
    gradients: tuple[str, ...]  # names of the parameters that have one
    norms: Readback  # of each


@dataclass
class Trainer:
    """The training of one run: its state at a step, and how it goes on from there."""

    seed: int
    train: Train
    runtime: Runtime
    dataset: Dataset
    source: Source | None  # None: there is nothing to train
    model: VideoModel
    objective: Objective
    curriculum: Curriculum
    optimizer: Optimizer
    device: torch.device
    checkpoints: Checkpoints
    track: Track
    profiler: Profiler
    stop: StopFlag
    frozen: dict[str, Tensor] = field(default_factory=dict)  # host copies of what came frozen
    frozen_digest: str | None = None
    probe: Callable[[int], None] | None = None  # scores the model after so many steps; may raise `Stopped`
    trainable: dict[str, nn.Parameter] = field(init=False)
    stage_index: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.model.to(self.device)
        self.objective.to(self.device)
        named = [*self.model.named_parameters(), *self.objective.named_parameters()]
        self.trainable = {name: p for name, p in named if p.requires_grad and self.objective.terms}
        self.curriculum.check(self.trainable)
        self.torch_optimizer, self.group_names = self._make_groups()
        half = self.train.precision == "fp16"
        if half and self.device.type != "cuda":
            raise UserError("train.precision=fp16: needs a GPU, choose from fp32, tf32, bf16, fp8")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        asked = self.runtime.late_checks
        self.late = (self.device.type == "cuda" if asked is None else asked) and not half
        set_tf32(self.train.precision)
        if self.train.precision == "fp8":
            refuse_without_fp8(self.device)
        refuse_without_compiler(self.runtime.compile)

    # ------------------------------------------------------------------------------------ the loop

    def fit(self, steps: range) -> None:
        """Train `steps`; the caller has put the run into the state before the first of them. The state after
        the last of them is saved.

        Raises `Stopped` after saving when asked to stop, and `NonFinite` without saving.
        """
        with closing(self.batches(steps)) as batches, self.profiler:
            self._probe(steps.start, steps.stop)  # again where a stop cut it short, or a kill
            waiting = None  # the step before, whose numbers are not read yet
            for step, clip in batches:
                launched = self.launch(step, clip)
                after = step + 1
                self.profiler.step(after)
                logging = after % self.runtime.log_every == 0 or after == self.train.steps
                saving = after % self.runtime.checkpoint_every == 0 or after == steps.stop
                output = launched.output if logging else None
                launched = replace(launched, output=None)
                del clip  # neither stays while the next step runs
                taken = self._account(waiting) if waiting else None
                waiting = launched
                if logging or saving or not self.late or self._probes(after, steps.stop):
                    taken, waiting = self._account(launched), None
                if logging:
                    self.track.log(step, self._report(given(taken), given(output), step))
                    output = None
                # after the last step, the evaluation stops
                stopping = taken is not None and taken.stop and after < steps.stop
                if stopping and waiting:
                    self._account(waiting)  # what is saved is known to be finite
                if stopping or saving:
                    self.save(after)
                if stopping:
                    raise Stopped(f"step {after} of {self.train.steps}")
                self._probe(after, steps.stop, saving)

    def _account(self, launched: Launched) -> Taken:
        taken = self.read(launched)
        self.track.step(launched.step, taken.norm, self.train.clip)
        return taken

    def step(self, step: int, clip: Clip) -> Taken:
        """Take step `step` on this rank's `clip`. Raises `NonFinite` with nothing applied."""
        return self.read(self.launch(step, clip))

    def launch(self, step: int, clip: Clip) -> Launched:
        """Give step `step` on this rank's `clip` to the device; `read` says what came of it.

        Unless `late`, it is read here: `NonFinite` is raised with nothing applied. Late, the device
        itself takes gradients that are not finite for zeros, and reading raises.
        """
        # A module that draws from the global generator (dropout) then depends on the step alone.
        torch.manual_seed(seed_of(self.seed, "step", step, dist.rank()))
        for event in self.curriculum.entering(step):
            event.apply(self.model, step)
        self.begin(step)
        self.torch_optimizer.zero_grad(set_to_none=True)
        with compiling(self.runtime.compile):
            with record_function("forward"):
                output, total, terms = self.forward(step, clip)
            with record_function("backward"):
                self.scaler.scale(total).backward()
        launched, numbers = self._reduce(step, clip, output, total.detach(), terms)
        applied = True
        if not self.late:  # the scaler of fp16 skips the update where the gradient is not finite
            applied = self.read(launched).norm < float("inf")
        if (self.device.type == "cpu" and not self.late) or self.scaler.is_enabled():
            self._clip(self.read(launched).norm)
        else:  # whenever they are read, so that a replay, which reads at once, has the same bits
            clip_on_device(self.trainable.values(), numbers[0], numbers[:2], self.train.clip)
        self._set_rates(step)
        with record_function("update"):
            self.scaler.step(self.torch_optimizer)
            self.scaler.update()
        if applied:
            self.model.after_step(step)
        for event in self.curriculum.upcoming(step):
            event.observe(step, output)
        return launched

    def _probe(self, step: int, end: int, saved: bool = True) -> None:
        """Probe the state after `step` steps where that is due; at `end` the evaluations follow. When asked
        to stop it is given up, and begun again by who goes on from that state; unless `saved`, it is now."""
        if not self._probes(step, end):
            return
        self.begin(step - 1)
        try:
            with self.track.apart():
                given(self.probe)(step)
        except Stopped:
            if not saved:
                self.save(step)
            raise Stopped(f"step {step} of {self.train.steps}") from None

    def _probes(self, step: int, end: int) -> bool:
        every = self.runtime.probe_every
        return self.probe is not None and every > 0 and step % every == 0 and 0 < step < end

    # ----------------------------------------------------------------------------- parts of a step

    def batches(self, steps: range) -> Generator[tuple[int, Clip], None, None]:
        """(step, this rank's clips), stage by stage: a stage may feed other clips than the run.

        Close it where it is not used up: loader processes may stand behind it.
        """
        starts = [*self.curriculum.starts, self.train.steps]
        for first, last in itertools.pairwise(starts):
            part = range(max(first, steps.start), min(last, steps.stop))
            if not part:
                continue
            feed = self.feed(part.start)
            with closing(feed.batches(part.start, part.stop, self._workers)) as clips:
                for step in part:
                    waited = time.monotonic()
                    with record_function("clip"):
                        clip = next(clips)
                    self.track.waited(time.monotonic() - waited)
                    yield step, clip
                    del clip

    @property
    def _workers(self) -> int:
        asked = self.runtime.workers
        return loaders.affordable(self.device) if asked is None else asked

    def feed(self, step: int) -> Feed:
        """The feed of the stage that `step` belongs to."""
        batch, frames = self.clips_of(step)
        feed = self._feed_spec(step)
        sampling = (feed and feed.sampling) or self.dataset.sampling
        return Feed(given(self.source), self.dataset, self.seed, batch, frames, sampling, self.device)

    def clips_of(self, step: int) -> tuple[int, int]:
        """How many clips `step` sees over all processes, and of how many frames."""
        feed = self._feed_spec(step)
        batch, frames = (feed.batch, feed.clip_frames) if feed else (None, None)
        return batch or self.train.batch, frames or self.dataset.clip_frames

    def _feed_spec(self, step: int) -> FeedSpec | None:
        stage = self.curriculum.stage(step)
        return stage.feed() if stage.feed else None

    def begin(self, step: int) -> None:
        """Set what depends on the stage of `step`; changes no weight."""
        index = self.curriculum.index(step)
        if index != self.stage_index:
            for name, parameter in self.trainable.items():
                parameter.requires_grad_(self.curriculum.trains(name, step))
            self.stage_index = index
        self.model.begin(self.curriculum.stages[index], step)

    def forward(self, step: int, clip: Clip) -> tuple[Output, Tensor, dict[str, Tensor]]:
        """The model's output on `clip`, the objective, and its raw terms; losses stay in float32."""
        with autocast(self.train.precision, self.device):
            output = self.model(clip)
        total, terms = self.objective(output, clip, self.curriculum.stage(step).terms, step)
        return output, total, terms

    def _reduce(
        self, step: int, clip: Clip, output: Output, total: Tensor, terms: dict[str, Tensor]
    ) -> tuple[Launched, Tensor]:
        """Average gradients, loss and terms over ranks, in one flat buffer with the wish to stop."""
        named = {name: p.grad for name, p in self.trainable.items() if p.grad is not None}
        gradients = list(named.values())
        numbers = torch.stack([total, _flag(bool(self.stop), total), *terms.values()]).float()
        if dist.world() > 1:
            parts = [*gradients, numbers]
            flat = dist.all_sum(torch.cat([p.flatten().float() for p in parts])) / dist.world()
            for part, mean in zip(parts, flat.split([p.numel() for p in parts]), strict=True):
                part.copy_(mean.view_as(part))
        self.scaler.unscale_(self.torch_optimizer)
        norms = torch.stack(torch._foreach_norm(gradients)) if gradients else total.new_zeros(0)
        numbers = torch.cat([torch.linalg.vector_norm(norms).float().reshape(1), numbers])
        reads = Readback(numbers), Readback(norms)
        return Launched(step, clip.names, output, tuple(terms), reads[0], tuple(named), reads[1]), numbers

    def read(self, launched: Launched) -> Taken:
        """What a step says of itself; waits for it. Raises `NonFinite` where that is not finite."""
        norm, loss, stop, *values = launched.numbers.read()
        taken = Taken(loss, dict(zip(launched.terms, values, strict=True)), norm, stop > 0)
        finite = abs(taken.loss) < float("inf")
        if finite and (taken.norm < float("inf") or self.scaler.is_enabled()):
            return taken  # the scaler of fp16 skips a step with such gradients, and lowers its scale
        record = {
            "step": launched.step,
            "names": [name for names in dist.gather_objects(launched.clips) for name in names],
            "loss": taken.loss,
            "terms": taken.terms,
            "gradient_norms": dict(zip(launched.gradients, launched.norms.read(), strict=True)),
        }
        self.torch_optimizer.zero_grad(set_to_none=True)
        raise NonFinite(launched.step, record)

    def _clip(self, norm: float) -> None:
        """Scale the gradients so that their global norm is at most train.clip."""
        if self.train.clip is not None and norm > self.train.clip:
            gradients = [p.grad for p in self.trainable.values() if p.grad is not None]
            torch._foreach_mul_(gradients, self.train.clip / (norm + 1e-6))

    def _set_rates(self, step: int) -> None:
        own = self.curriculum.rate(step)
        rate = self.optimizer.rate(step) if own is None else own
        for group, names in zip(self.torch_optimizer.param_groups, self.group_names, strict=True):
            group["lr"] = rate * self.curriculum.factor(names[0], step)
            decay = self.optimizer.weight_decay if self.optimizer.decays(self.trainable[names[0]]) else 0.0
            group["weight_decay"] = self.curriculum.weight_decay(names[0], step, decay)

    def _make_groups(self) -> tuple[torch.optim.Optimizer, list[list[str]]]:
        """Parameters that are treated alike in every stage share a group: few groups keep a step fast."""
        groups: dict[Any, list[str]] = {}
        for name, parameter in self.trainable.items():
            treatment = self.curriculum.treatment(name), self.optimizer.decays(parameter)
            groups.setdefault(treatment, []).append(name)
        names = list(groups.values())
        parameters = [{"params": [self.trainable[n] for n in group]} for group in names]
        return self.optimizer.over(parameters or [torch.zeros(0)]), names  # it refuses to have none

    # -------------------------------------------------------------------------- state, and reports

    def save(self, step: int) -> None:
        """Write the checkpoint of the state before `step` (rank 0; the others wait for it)."""
        if dist.rank() == 0:
            self.checkpoints.save(step, self.state(step))
        dist.barrier()

    def state(self, step: int) -> State:
        """Everything that the rest of the run depends on, beside the config and the step.

        Frozen weights are left out where they are as they came: a teacher, which no gradient
        reaches either, is not, and is saved.
        """
        weights = self.model.state_dict()
        as_came = {n for n, came in self.frozen.items() if torch.equal(weights[n].cpu(), came)}
        return {
            "step": step,
            "model": {name: tensor for name, tensor in weights.items() if name not in as_came},
            "loss": self.objective.state_dict(),
            "optimizer": self.torch_optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "curriculum": self.curriculum.state_dict(),
            "frozen": self.frozen_digest,
        }

    def restore(self, state: State) -> None:
        """Go back to what `state` describes, its model's weights excepted (`loading.fill`)."""
        self.objective.load_state_dict(state["loss"])
        self.torch_optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.curriculum.load_state_dict(state["curriculum"])

    def frozen_now(self) -> dict[str, Tensor]:
        """The parameters that no gradient reaches in any stage, on the host."""
        parameters = self.model.named_parameters()
        return {name: p.detach().cpu().clone() for name, p in parameters if name not in self.trainable}

    def _report(self, taken: Taken, output: Output, step: int) -> dict[str, float]:
        terms = self.objective.terms
        report = {"loss": taken.loss, "lr": self.torch_optimizer.param_groups[0]["lr"]}
        report |= {f"term.{name}": value for name, value in taken.terms.items()}
        weights = {name: terms[name].weight_at(step) for name in taken.terms}
        report |= {f"weight.{name}": weights[name] for name in weights if callable(terms[name].weight)}
        report |= {f"weighted.{name}": weights[name] * value for name, value in taken.terms.items()}
        masks = output.masks if output.masks is not None else output.attn
        soft = masks.detach().float()
        winners = nn.functional.one_hot(soft.argmax(dim=2), soft.shape[2]).sum(dim=(1, 2))
        report["slots_used"] = float((winners > 0).sum(-1).float().mean())
        report["mask_entropy"] = float(-(soft * soft.clamp_min(1e-9).log()).sum(2).mean())
        report["stage"] = self.curriculum.index(step)
        return report


def _flag(value: bool, like: Tensor) -> Tensor:
    """0 or 1 beside `like`, filled on its device: a copy from the host would wait for it."""
    return like.new_full((), float(value))
