"""Four seeds of the default experiment as one program, against their steps in turn and against processes.

Run from the repository root: `python benchmarks/seeds.py`. Each seed has weights and clips of its own. As one
program they are stacked: `torch.func.vmap` over forward pass and losses, one backward pass, each seed's
gradient clipped by its own norm, one Adam. It is first asserted that losses and gradients are those of the
trainer's own steps. What vmap has no rule for gets the seeds in front: slot attention's GRU and the squared
error in one go, the decoder's hidden states seed by seed, so that they stay in the cache (`batched`), or
also in one go (`at_once`).

In steps of a seed per second, over those of the seeds in turn, on one thread (by processor time) and on two:
`batched`, `at_once`, and `bound`, that of one step with the clips of all four and the weights of one.
`side_by_side`: two processes with a thread each, over in turn on two. `dispatch`, `dispatch_bound`: at_once
and bound with one clip a seed, where most of the time goes into calling operations, as where a GPU waits for
its host. `launches_turn`, `launches`: kernels that a GPU is given for a step of all four, by count of
operations of aten on a CPU. Then for one seed, features kept: kernels of a step, what launching them takes at
the measured price of an operation, and what its matrix products take of an H200 (0.4 of its dense bf16 rate).
`ratio`: the time of `batched` over that of the steps in turn, on one thread.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest import mock

import counts
import torch
from torch import Tensor
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from vocl import assemble
from vocl.config.compose import composed
from vocl.dryrun.memory import HOST
from vocl.interface import Clip
from vocl.losses import reconstruction
from vocl.nn.decoders import broadcast, mixing
from vocl.ops.random import seed_of
from vocl.rundir.of_config import run_dir_of
from vocl.stop import StopFlag
from vocl.trainer import Trainer

SEEDS, WARM, STEPS, ROUNDS = 4, 1, 6, 2
SETTINGS = ["experiment=slotcontrast/synthetic", "dataset.first_batches=1"]
TOLERANCE = 1e-5
GPU_EXPERIMENTS = ("slotcontrast/synthetic", "slotcontrast/davis2016", "slotcontrast/movi_c")

Mixed = tuple[Tensor, Tensor]


class WithSeeds(torch.autograd.Function):
    """A function under vmap that has no rule of its own: it is called with the seeds in front."""

    @staticmethod
    def forward(*inputs: Any) -> Any:
        raise NotImplementedError("called outside of vmap")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: the function is PyTorch's to differentiate."""

    @staticmethod
    def vmap(info: Any, in_dims: Sequence[int | None], function: Any, *inputs: Tensor) -> Any:
        placed = [
            x.expand(info.batch_size, *x.shape) if d is None else x.movedim(d, 0)
            for x, d in zip(inputs, in_dims[1:], strict=True)
        ]
        found = function(*placed)
        return found, (0,) * len(found) if isinstance(found, tuple) else 0


def mixed_by_seed(slots: Tensor, position: Tensor, logit: Tensor, *layers: Tensor) -> Mixed:
    """`mixed_states` of each seed: s m k n and s m n h."""
    found = []
    for i in range(len(slots)):
        pairs = zip(layers[0::2], layers[1::2], strict=True)
        middle: list[Any] = [SimpleNamespace(weight=w[i], bias=b[i]) for w, b in pairs]
        found.append(mixing.mixed_states(slots[i], position[i], middle, logit[i]))
    masks, mixed = zip(*found, strict=True)
    return torch.stack(masks), torch.stack(mixed)


def mixed_at_once(slots: Tensor, position: Tensor, logit: Tensor, *layers: Tensor) -> Mixed:
    """The same, all seeds in each product."""
    s, m, k, h = slots.shape
    states = torch.relu_(slots.unsqueeze(3) + position[:, None, None]).view(s, -1, h)
    for weight, bias in zip(layers[0::2], layers[1::2], strict=True):
        states = torch.relu_(torch.baddbmm(bias.unsqueeze(1), states, weight.transpose(1, 2)))
    masks = (states @ logit.unsqueeze(-1)).view(s, m, k, -1).softmax(2)
    return masks, (states.view(s, m, k, -1, h) * masks.unsqueeze(-1)).sum(2)


def gru_at_once(x: Tensor, hidden: Tensor, w_x: Tensor, w_h: Tensor, b_x: Tensor, b_h: Tensor) -> Tensor:
    """`torch.gru_cell` with the seeds in front."""
    r_x, z_x, n_x = torch.baddbmm(b_x.unsqueeze(1), x, w_x.transpose(1, 2)).chunk(3, dim=-1)
    r_h, z_h, n_h = torch.baddbmm(b_h.unsqueeze(1), hidden, w_h.transpose(1, 2)).chunk(3, dim=-1)
    new = torch.tanh(n_x + torch.sigmoid(r_x + r_h) * n_h)
    return torch.lerp(new, hidden, torch.sigmoid(z_x + z_h))


def errors_at_once(recon: Tensor, target: Tensor) -> Tensor:
    """The squared errors s b t of frames s b t n e."""
    rows = reconstruction._MeanSquaredError.apply(recon.flatten(0, 1), target.flatten(0, 1))
    return rows.unflatten(0, recon.shape[:2])


class Together:
    """The training of several seeds as one program, from where their trainers are."""

    def __init__(self, trainers: list[Trainer], mixed: Callable[..., Mixed]) -> None:
        self.first, self.mixed = trainers[0], mixed
        seeds = [{name: p.detach() for name, p in trainer.trainable.items()} for trainer in trainers]
        self.weights = {n: torch.stack([w[n] for w in seeds]).requires_grad_() for n in seeds[0]}
        self.adam = self.first.optimizer.over(list(self.weights.values()))

    def step(self, step: int, clips: list[Clip]) -> Tensor:
        """Take a step of every seed on its own clips; returns the losses."""
        parts = ((clip.video, clip.valid, clip.key) for clip in clips)
        stacked = [torch.stack(part) for part in zip(*parts, strict=True)]
        self.first.begin(step)
        self.adam.zero_grad(set_to_none=True)
        with self._rules():
            losses = vmap(lambda *seed: self._loss(step, *seed))(self.weights, *stacked)
        losses.sum().backward()
        self._clip(losses.detach())
        self.adam.param_groups[0]["lr"] = self.first.optimizer.rate(step)
        self.adam.step()
        return losses.detach()

    def _loss(
        self, step: int, weights: dict[str, Tensor], video: Tensor, valid: Tensor, key: Tensor
    ) -> Tensor:
        clip = Clip(video, valid, key, ())
        output = functional_call(self.first.model, weights, (clip,))
        return self.first.objective(output, clip, self.first.curriculum.stage(step).terms, step)[0]

    def _clip(self, losses: Tensor) -> None:
        """As `vocl.optim.clip_on_device`, for each seed: one that diverged changes no other."""
        grads = [w.grad for w in self.weights.values() if w.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads])
        norm = torch.linalg.vector_norm(norms, dim=0)
        finite = torch.isfinite(norm + losses)
        scale = ((self.first.train.clip or float("inf")) / (norm + 1e-6)).clamp(max=1.0)
        for weight in self.weights.values():
            rows = (-1, *[1] * (weight.ndim - 1))
            weight.grad = torch.where(finite.view(rows), weight.grad * scale.view(rows), 0)

    @contextmanager
    def _rules(self) -> Iterator[None]:
        def mixed(slots: Tensor, position: Tensor, middle: Any, logit: Tensor) -> Mixed:
            layers = [part for layer in middle for part in (layer.weight, layer.bias)]
            return WithSeeds.apply(self.mixed, slots, position, logit, *layers)

        def errors(output: Any) -> Tensor:
            return WithSeeds.apply(errors_at_once, output.recon, output.target.detach())

        with (
            mock.patch.object(broadcast, "mixed_states", mixed),
            mock.patch.object(reconstruction, "_frame_errors", errors),
            mock.patch.object(torch, "gru_cell", partial(WithSeeds.apply, gru_at_once)),
            sdpa_kernel(SDPBackend.MATH),  # the CPU's own has no rule
        ):
            yield


def make_trainers(*settings: str) -> tuple[list[Trainer], list[Clip]]:
    """The trainers of all seeds at their first step, and their clips."""
    trainers, clips, shared = [], [], composed([*SETTINGS, *settings])
    for seed in range(SEEDS):
        config = replace(shared, seed=seed)
        torch.manual_seed(seed_of(seed, "weights"))
        source, model = assemble.make_source(config, "train"), assemble.make_model(config, pretrained=True)
        made = assemble.make_trainer(config, model, source, HOST, StopFlag(), run_dir_of(config), mute=True)
        trainers.append(made)
        clips.append(next(made.batches(range(1)))[1])
    return trainers, clips


def check(mixed: Callable[..., Mixed]) -> None:
    """Assert that losses and gradients of the program are those of the trainers."""
    trainers, clips = make_trainers()
    together = Together(trainers, mixed)
    losses = together.step(0, clips).tolist()
    for i, (trainer, clip) in enumerate(zip(trainers, clips, strict=True)):
        own = trainer.step(0, clip).loss
        assert abs(losses[i] - own) <= TOLERANCE * abs(own), f"loss {losses[i]} and {own}"
        for name, weight in together.weights.items():
            found, wanted = weight.grad[i], trainer.trainable[name].grad
            assert (found - wanted).norm() <= TOLERANCE * wanted.norm(), f"gradient of {name}, seed {i}"


def make_steps(*settings: str) -> dict[str, Callable[[], object]]:
    """What steps all seeds once, by name."""
    trainers, clips = make_trainers(*settings)
    by_seed, at_once = Together(trainers, mixed_by_seed), Together(trainers, mixed_at_once)
    (wide, *_), _ = make_trainers(*settings, f"loss.slot_contrast.group={len(clips[0].key)}")
    parts = [(clip.video, clip.valid, clip.key) for clip in clips]
    video, valid, key = (torch.cat(part) for part in zip(*parts, strict=True))
    all_clips = Clip(video, valid, key, ())
    return {
        "turn": lambda: [trainer.step(0, clip) for trainer, clip in zip(trainers, clips, strict=True)],
        "batched": lambda: by_seed.step(0, clips),
        "at_once": lambda: at_once.step(0, clips),
        "bound": lambda: wide.step(0, all_clips),
    }


def seconds_of(threads: int, *settings: str) -> dict[str, float]:
    """The best of `STEPS` of each, in alternation."""
    torch.set_num_threads(threads)
    clock = time.process_time if threads == 1 else time.perf_counter
    steps = make_steps(*settings)
    found = dict.fromkeys(steps, float("inf"))
    for i in range(WARM + STEPS):
        for name, step in steps.items():
            began = clock()
            step()
            if i >= WARM:
                found[name] = min(found[name], clock() - began)
    return found


def seconds_beside(seed: int) -> float:
    """Of as many steps as there are seeds, of one of them on a thread, while another process does the same:
    the best of `STEPS`."""
    torch.set_num_threads(1)
    trainers, clips = make_trainers()
    found = []
    for _ in range(WARM + STEPS):
        began = time.perf_counter()
        for _ in range(SEEDS):
            trainers[seed].step(0, clips[seed])
        found.append(time.perf_counter() - began)
    return min(found[WARM:])


def count_launches() -> tuple[int, int]:
    """Of the steps in turn, and of the program, once the optimizer has its moments."""
    trainers, clips = make_trainers("runtime.late_checks=true")  # as on a GPU
    together = Together(trainers, mixed_at_once)
    for _ in range(2):
        with counts.Launches() as turn:
            for trainer, clip in zip(trainers, clips, strict=True):
                trainer.step(0, clip)
        with counts.Launches() as batched:
            together.step(0, clips)
    return turn.number, batched.number


def apart(work: Callable[..., Any], *asked: tuple[Any, ...]) -> list[Any]:
    """`work` on each of `asked` at once, in processes of their own."""
    with multiprocessing.get_context("fork").Pool(len(asked)) as pool:
        return pool.starmap(work, asked, chunksize=1)


def measure() -> tuple[dict[int, dict[str, float]], float]:
    """The best seconds of each kind by number of threads, and those side by side."""
    found: dict[int, dict[str, float]] = {1: {}, 2: {}}
    beside = float("inf")
    for _ in range(ROUNDS):
        for threads, best in found.items():
            [seconds] = apart(seconds_of, (threads,))
            best |= {name: min(value, best.get(name, value)) for name, value in seconds.items()}
        beside = min(beside, max(apart(seconds_beside, (0,), (1,))))
    return found, beside


def show_gpu(launch_s: float) -> None:
    """What a GPU would be given, and how long host and GPU would take, at `launch_s` for each kernel."""
    peak, _ = counts.GPUS["H200"]
    for name in GPU_EXPERIMENTS:
        [counted] = apart(counts.count, (name, 1, True))
        host_ms, gpu_ms = 1e3 * counted.launches * launch_s, 1e3 * counted.flops / peak / counts.REACHED
        print(f"{name} launches {counted.launches} host {host_ms:.1f} ms products {gpu_ms:.3f} ms")


def main() -> None:
    for mixed in (mixed_by_seed, mixed_at_once):
        apart(check, (mixed,))
    [(turn, batched)] = apart(count_launches, ())
    found, beside = measure()
    for threads, seconds in found.items():
        gains = [f"{name}={seconds['turn'] / seconds[name]:.2f}" for name in ("batched", "at_once", "bound")]
        print(f"threads {threads} turn {seconds['turn']:.4f} s", *gains)
    print(f"side_by_side={2 * found[2]['turn'] / beside:.2f}")
    [one] = apart(seconds_of, (1, "train.batch=1"))
    print(f"one clip, threads 1 turn {one['turn']:.4f} s")
    print(f"dispatch={one['turn'] / one['at_once']:.2f} dispatch_bound={one['turn'] / one['bound']:.2f}")
    print(f"launches_turn={turn} launches={batched}")
    show_gpu(one["turn"] / turn)
    print(f"ratio={found[1]['batched'] / found[1]['turn']:.3f}")


if __name__ == "__main__":
    main()
