"""The training loop. It knows steps, stages, terms and checkpoints, and no method's name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from vocl import dist
from vocl.checkpoint import Checkpoints, State
from vocl.curriculum import Curriculum
from vocl.data.feed import Feed
from vocl.errors import UserError
from vocl.interface import Clip, Output, Source, VideoModel
from vocl.objective import Objective
from vocl.optim import Optimizer
from vocl.settings import Dataset, Runtime, Train
from vocl.stop import Stopped, StopFlag
from vocl.track import Track


class NonFinite(Exception):
    """A step gave a loss or gradient that is not finite. `record` says where; nothing was applied."""

    def __init__(self, step: int, record: dict[str, Any]) -> None:
        super().__init__(f"step {step}: loss or gradient is not finite")
        self.step, self.record = step, record


@dataclass
class Trainer:
    """One run's training, from the newest checkpoint to the last step."""

    seed: int
    train: Train
    runtime: Runtime
    dataset: Dataset
    source: Source
    model: VideoModel
    objective: Objective
    curriculum: Curriculum
    optimizer: Optimizer
    device: torch.device
    checkpoints: Checkpoints
    track: Track
    stop: StopFlag
    frozen_digest: str | None = None
    seconds_before: float = 0.0
    trainable: dict[str, nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.model.to(self.device)
        self.objective.to(self.device)
        named = [*self.model.named_parameters(), *self.objective.named_parameters()]
        self.trainable = {name: p for name, p in named if p.requires_grad}
        self.curriculum.check(self.trainable)
        self.torch_optimizer, self.group_names = self._make_groups()
        half = self.train.precision == "fp16"
        if half and self.device.type != "cuda":
            raise UserError("train.precision=fp16: needs a GPU, choose from fp32, tf32, bf16")
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=half)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.train.precision == "tf32"

    # ------------------------------------------------------------------------------------ the loop

    def fit(self, steps: range) -> None:
        """Train `steps`; the caller has put the run into the state before the first of them.

        Raises `Stopped` after saving when asked to stop, and `NonFinite` without saving.
        """
        self.began = time.monotonic()
        for step, clip in self._batches(steps):
            if self._stop_agreed():
                self.save(step)
                raise Stopped(f"step {step} of {self.train.steps}")
            if step > steps.start and step % self.runtime.checkpoint_every == 0:
                self.save(step)

            stage = self.curriculum.stage(step)
            for event in self.curriculum.entering(step):
                event.apply(self.model, step)
            self._set_trainable(step)
            self.model.begin(stage, step)

            output, total, terms = self._forward(clip, stage.terms)
            self.torch_optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(total).backward()
            norm = self._reduce_gradients()
            self._refuse_non_finite(step, clip, total, terms, norm)
            self._clip_gradients(norm)
            self._set_rates(step)
            self.scaler.step(self.torch_optimizer)
            self.scaler.update()
            self.model.after_step(step)
            for event in self.curriculum.upcoming(step):
                event.observe(step, output)

            self.track.step(step, norm, self.train.clip)
            if (step + 1) % self.runtime.log_every == 0 or step + 1 == self.train.steps:
                self.track.log(step, self._report(output, total, terms, step))
        if steps.stop == self.train.steps:
            self.save(self.train.steps)

    # ----------------------------------------------------------------------------- parts of a step

    def _batches(self, steps: range) -> Iterator[tuple[int, Clip]]:
        """(step, this rank's clips), stage by stage: a stage may feed other clips than the run."""
        for start, stop, feed in self._feeds(steps):
            clips = iter(feed.batches(start, stop, self.runtime.workers))
            for step in range(start, stop):
                waited = time.monotonic()
                clip = next(clips).to(self.device)
                self.track.waited(time.monotonic() - waited)
                yield step, clip

    def _feeds(self, steps: range) -> Iterator[tuple[int, int, Feed]]:
        starts = [*self.curriculum.starts, self.train.steps]
        for i in range(len(starts) - 1):
            start, stop = max(starts[i], steps.start), min(starts[i + 1], steps.stop)
            if start < stop:
                yield start, stop, self.feed(start)

    def feed(self, step: int) -> Feed:
        """The feed of the stage that `step` belongs to."""
        stage = self.curriculum.stage(step)
        feed = stage.feed() if stage.feed else None
        batch = (feed and feed.batch) or self.train.batch
        frames = (feed and feed.clip_frames) or self.dataset.clip_frames
        return Feed(self.source, self.dataset, self.seed, batch, frames)

    def _forward(self, clip: Clip, names: str | list[str]) -> tuple[Output, Tensor, dict[str, Tensor]]:
        low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.train.precision)
        with torch.autocast(self.device.type, dtype=low) if low else nullcontext():
            output = self.model(clip)
        total, terms = self.objective(output, clip, names)
        return output, total, terms

    def _reduce_gradients(self) -> Tensor:
        """Average the gradients over ranks in one flat buffer; returns their global L2 norm."""
        gradients = [p.grad for p in self.trainable.values() if p.grad is not None]
        if dist.world() > 1:
            flat = dist.all_sum(torch.cat([g.flatten() for g in gradients])) / dist.world()
            for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                gradient.copy_(piece.view_as(gradient))
        self.scaler.unscale_(self.torch_optimizer)
        return torch.nn.utils.get_total_norm(gradients)

    def _refuse_non_finite(self, step: int, clip: Clip, total: Tensor, terms: dict[str, Tensor], norm: Tensor) -> None:
        """Reads one scalar of the step just computed, so that nothing non-finite is ever applied."""
        if torch.isfinite(norm) and torch.isfinite(total):
            return
        if self.scaler.is_enabled() and torch.isfinite(total):
            return  # the scaler skips the step and lowers its scale
        norms = {name: float(p.grad.norm()) for name, p in self.trainable.items() if p.grad is not None}
        record = {
            "step": step,
            "names": list(clip.names),
            "loss": float(total),
            "terms": {name: float(value) for name, value in terms.items()},
            "gradient_norms": norms,
        }
        raise NonFinite(step, {key: _spell(value) for key, value in record.items()})

    def _clip_gradients(self, norm: Tensor) -> None:
        if self.train.clip is not None:
            with_grad = [p for p in self.trainable.values() if p.grad is not None]
            torch.nn.utils.clip_grads_with_norm_(with_grad, self.train.clip, norm)

    def _set_trainable(self, step: int) -> None:
        for name, parameter in self.trainable.items():
            parameter.requires_grad_(self.curriculum.trains(name, step))

    def _set_rates(self, step: int) -> None:
        rate = self.optimizer.rate(step)
        for group, names in zip(self.torch_optimizer.param_groups, self.group_names, strict=True):
            group["lr"] = rate * self.curriculum.factor(names[0], step)
            group["weight_decay"] = self.curriculum.weight_decay(names[0], step, self.optimizer.weight_decay)

    def _make_groups(self) -> tuple[torch.optim.Optimizer, list[list[str]]]:
        """Parameters that every stage treats alike share a group: few groups keep a step fast."""
        groups: dict[Any, list[str]] = {}
        for name in self.trainable:
            groups.setdefault(self.curriculum.treatment(name), []).append(name)
        names = list(groups.values())
        return self.optimizer.over([{"params": [self.trainable[n] for n in group]} for group in names]), names

    def _stop_agreed(self) -> bool:
        """Whether any rank was asked to stop, so that all leave at the same step."""
        if dist.world() == 1:
            return bool(self.stop)
        flag = torch.tensor(float(bool(self.stop)), device=self.device)
        return bool(dist.all_sum(flag) > 0)

    # -------------------------------------------------------------------------- state, and reports

    def save(self, step: int) -> None:
        """Write the checkpoint of the world before `step` (rank 0)."""
        if dist.rank() == 0:
            self.checkpoints.save(step, self.state(step))
        dist.barrier()

    def state(self, step: int) -> State:
        """Everything that the rest of the run depends on, beside the config and the step."""
        return {
            "step": step,
            "model": {name: t for name, t in self.model.state_dict().items() if name not in self.frozen_names()},
            "loss": self.objective.state_dict(),
            "optimizer": self.torch_optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "curriculum": self.curriculum.state_dict(),
            "frozen": self.frozen_digest,
            "seconds": self.seconds_before + time.monotonic() - self.began,
        }

    def restore(self, state: State) -> None:
        """Undo to the world that `state` describes."""
        own = self.model.state_dict()
        lacking = set(own) - set(state["model"]) - self.frozen_names()
        assert not lacking, f"checkpoint lacks {sorted(lacking)[:3]}"
        self.model.load_state_dict(state["model"], strict=False)
        self.objective.load_state_dict(state["loss"])
        self.torch_optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.curriculum.load_state_dict(state["curriculum"])
        self.seconds_before = state["seconds"]

    def frozen_names(self) -> set[str]:
        """Names of parameters that no stage trains: they are not repeated in checkpoints."""
        return {n for n, p in self.model.named_parameters() if n not in self.trainable and not p.requires_grad}

    def _report(self, output: Output, total: Tensor, terms: dict[str, Tensor], step: int) -> dict[str, float]:
        weights = {name: term.weight for name, term in self.objective.terms.items()}
        report = {"loss": float(total.detach()), "lr": self.torch_optimizer.param_groups[0]["lr"]}
        report |= {f"term.{name}": float(value) for name, value in terms.items()}
        report |= {f"weighted.{name}": weights[name] * float(value) for name, value in terms.items()}
        masks = output.masks if output.masks is not None else output.attn
        soft = masks.detach().float()
        winners = nn.functional.one_hot(soft.argmax(dim=2), soft.shape[2]).sum(dim=(1, 2))
        report["slots_used"] = float((winners > 0).sum(-1).float().mean())
        report["mask_entropy"] = float(-(soft * soft.clamp_min(1e-9).log()).sum(2).mean())
        report["stage"] = self.curriculum.index(step)
        return report


def _spell(value: Any) -> Any:
    """Non-finite numbers as words, which JSON can hold."""
    if isinstance(value, dict):
        return {key: _spell(item) for key, item in value.items()}
    return repr(value) if isinstance(value, float) and not abs(value) < float("inf") else value
