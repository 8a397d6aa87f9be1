"""All that is claimed of a GPU, measured on one: `make gpu`, at most 8 minutes.

    python benchmarks/gpu.py [FILE] [device=cuda] [seconds=420]

Not one of the other scripts' kind: no claim with a ratio but a report, as a table and as one JSON, FILE
(gpu.json). It asks for PyTorch and what vocl imports, as they are found, and for nothing of the network:
weights are random, clips noise or the embedded sprites.

- agreement: losses and gradients of each method on the sprites in fp32, on the GPU and on the CPU
- resume: a run of 6 steps against one that stops at the third and goes on, weight by weight
- ranks: the same run by two ranks, on two GPUs where there are two, against that of one, weight by weight
- stall: the share of MOVi-C's steps in which they wait for their clips, by all cores from PNG in a store
- step: MOVi-C's at the published batch, against the plain formulation in fp32 (benchmarks/plain.py), and
  against the floor: its floating point operations at the measured rate of a large product in bf16; in
  each precision
- compiled: the same, in each mode of torch.compile
- experiments: each at its published size, one step of each stage: time, peak memory, its share of the
  floor; and a video of 24 frames through `segment`

A part has a process of its own and a share of the time; FILE is written again after each row. What does not
fit into the time is said to be left out; what fails is told and does not stop the rest.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from gpu_parts import Part, Rows, rows_of, told
from gpu_runs import ranks, resume, stall, trainer_of
from step import CONTRAST, Step, make_clip, make_model, make_steps, matmul_rate, seconds_of
from torch.utils.flop_counter import FlopCounterMode

from vocl import assemble
from vocl.config.compose import composed
from vocl.config.run_config import RunConfig
from vocl.dryrun.clips import empty_clip
from vocl.files import write_json
from vocl.interface import Clip, SegmentOptions
from vocl.nn.execution.compiled import Mode
from vocl.nn.execution.precision import set_tf32
from vocl.trainer import Trainer

EXPERIMENTS = Path(__file__).resolve().parents[1] / "conf" / "experiment"
FRAMES, CPU = 24, torch.device("cpu")
Variants = Sequence[tuple[str, Mode | None]]  # precision and mode of torch.compile
EAGER: Variants = (("fp32", None), ("tf32", None), ("bf16", None), ("fp8", None))
COMPILED: Variants = (("bf16", None), ("bf16", "default"), ("fp8", "default"), ("bf16", "reduce-overhead"))


def names(synthetic: bool) -> list[str]:
    """Experiments that train something, on the sprites or at their published size; first those that the
    claims are of."""
    found = [str(path.relative_to(EXPERIMENTS).with_suffix("")) for path in EXPERIMENTS.glob("*/*.yaml")]
    found.sort(key=lambda name: (not name.startswith("slotcontrast/"), name))
    chosen = [name for name in found if name.endswith("/synthetic") == synthetic and "smoke" not in name]
    return [name for name in chosen if not name.startswith(("baselines/", "backbone/"))]


def noise(config: RunConfig, trainer: Trainer, b: int, t: int) -> Clip:
    """Clips of noise with the annotations that are read."""
    clip = empty_clip(config, trainer.model, b, t).to(trainer.device)
    generator = torch.Generator(trainer.device).manual_seed(0)  # a CPU takes seconds for so many numbers
    for video in (clip.video, *clip.views):
        assert video is not None
        video.normal_(generator=generator)
    return replace(clip, key=torch.arange(b, device=trainer.device))


def agreement(device: torch.device) -> Rows:
    """How far losses and gradients on `device` are from those on the CPU."""
    for name in names(synthetic=True):
        config = composed([f"experiment={name}", "train.precision=fp32", "train.batch=4"])
        found = []
        for place in (CPU, device):
            trainer = trainer_of(config, place, assemble.make_source(config, "train"))
            trainer.begin(0)
            _, total, _ = trainer.forward(0, trainer.feed(0).batch(0).to(place))
            total.backward()
            gradients = [p.grad.flatten().cpu() for p in trainer.trainable.values() if p.grad is not None]
            found.append((float(total.detach()), torch.cat(gradients).double()))
        (loss, gradient), (other, theirs) = found
        gap = float((gradient - theirs).norm() / gradient.norm())
        yield {"experiment": name, "loss_gap": abs(loss - other) / abs(loss), "gradient_gap": gap}


def about(device: torch.device) -> Rows:
    """What it is measured on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    found = {"device": name, "torch": torch.__version__, "matmul_fp32_tflops": matmul_rate(device) / 1e12}
    yield {**found, "matmul_bf16_tflops": matmul_rate(device, torch.bfloat16) / 1e12}


def step(device: torch.device) -> Rows:
    """MOVi-C's step in each precision."""
    yield from variants(device, EAGER)


def compiled(device: torch.device) -> Rows:
    """The same in each mode of torch.compile."""
    yield from variants(device, COMPILED)


def variants(device: torch.device, chosen: Variants) -> Rows:
    """MOVi-C's step against the plain formulation and against the floor."""
    clip, rate = make_clip(device), matmul_rate(device, torch.bfloat16)
    set_tf32("fp32")
    steps = make_steps(make_model(device), clip)
    loss, row = timed(steps["plain"], device)
    yield {"step": "plain fp32", **row, "clips": len(clip.key)}
    with FlopCounterMode(display=False) as counter:
        steps["ours"]()
    floor = counter.get_total_flops() / rate
    del steps
    for precision, mode in chosen:
        empty(device)
        set_tf32(precision)
        try:
            found, own = timed(make_steps(make_model(device), clip, precision, mode)["ours"], device)
        except Exception as error:  # of a program that torch.compile cannot make here, say
            yield {"step": f"{precision} {mode}", "error": told(error)}
            continue
        shares = {"over_floor": own["seconds"] / floor, "over_plain": own["seconds"] / row["seconds"]}
        yield {"step": f"{precision} {mode}", **own, **shares, "loss_gap": abs(found - loss) / abs(loss)}


def empty(device: torch.device) -> None:
    """Give back what nobody holds any more, and count the memory from here."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def timed(work: Step, device: torch.device) -> tuple[float, dict[str, float]]:
    """The loss of the first step, and how long one takes after some; `first_s`: with what is compiled."""
    losses: list[float] = []
    first = seconds_of(lambda: losses.extend(map(float, work())), device)
    seconds_of(work, device)
    best = min(seconds_of(work, device) for _ in range(5 if device.type == "cuda" else 1))
    peak = {"peak_gb": torch.cuda.max_memory_allocated(device) / 1e9} if device.type == "cuda" else {}
    return losses[0] + CONTRAST * losses[1], {"seconds": best, "first_s": first, **peak}


def experiments(device: torch.device) -> Rows:
    """Each published experiment: a step of each stage in its own precision and in bf16, and `segment`."""
    rate = matmul_rate(device, torch.bfloat16)
    for name in names(synthetic=False):
        own = composed([f"experiment={name}"])
        for precision in dict.fromkeys([own.train.precision, "bf16"]):
            if precision == "fp16" and device.type == "cpu":
                continue
            config = replace(own, train=replace(own.train, precision=precision))
            empty(device)
            try:
                yield from stages(name, config, device, rate)
            except Exception as error:  # out of memory, say
                yield {"experiment": name, "precision": precision, "error": told(error)}


def stages(name: str, config: RunConfig, device: torch.device, rate: float) -> Rows:
    """A step of each stage, and then a video."""
    trainer = trainer_of(config, device)
    curriculum = trainer.curriculum
    for stage, start in zip(curriculum.names, curriculum.starts, strict=True):
        at = start + (curriculum.index(start + 1) == curriculum.index(start))
        b, t = trainer.clips_of(at) if device.type == "cuda" else (1, 2)
        clip = noise(config, trainer, b, t)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with FlopCounterMode(display=False) as counter:
            trainer.step(at, clip)
        seconds = min(seconds_of(lambda at=at, clip=clip: trainer.step(at, clip), device) for _ in range(2))
        row = {
            "experiment": name,
            "stage": stage,
            "precision": config.train.precision,
            "clips": b,
            "frames": t,
        }
        peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        floor = counter.get_total_flops() / rate
        yield {**row, "seconds": seconds, "over_floor": seconds / floor, "peak_gb": peak}
    if "masks" in trainer.model.answers:
        trainer.model.eval()
        video = noise(config, trainer, 1, FRAMES if device.type == "cuda" else 2)
        options = SegmentOptions(cyclic=False, iterations=None, seed=0)
        trainer.model.segment(video, options)
        seconds = seconds_of(lambda: trainer.model.segment(video, options), device)
        yield {
            "experiment": name,
            "stage": "segment",
            "precision": "fp32",
            "frames": FRAMES,
            "seconds": seconds,
        }


PARTS: dict[str, tuple[Part, float]] = {  # and the share of the time that it may take
    "about": (about, 0.15),
    "agreement": (agreement, 0.25),
    "resume": (resume, 0.2),
    "ranks": (ranks, 0.2),
    "step": (step, 0.25),
    "stall": (stall, 0.25),
    "compiled": (compiled, 0.4),
    "experiments": (experiments, 1.0),
}


def measure(device: torch.device, limit_s: float, file: Path) -> None:
    """Write the rows of each part to `file`, in order, while there is time."""
    until, report = time.monotonic() + limit_s, dict[str, list[dict[str, Any]]]()
    for name, (part, share) in PARTS.items():
        report[name], left_s = [], until - time.monotonic()
        rows = rows_of(part, device, min(share * limit_s, left_s)) if left_s > 0 else [{"left_out": True}]
        for row in rows:
            report[name].append(row)
            print(name, shown(row), flush=True)
            write_json(file, report)


def shown(row: dict[str, Any]) -> str:
    """A row as words."""
    return " ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items())


def main(words: list[str]) -> None:
    """Measure and write."""
    options = dict(word.split("=", 1) for word in words if "=" in word)
    file = next((word for word in words if "=" not in word), "gpu.json")
    device = torch.device(options.get("device", "cuda"))
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("make gpu: no GPU is visible here; device=cpu tries the script itself")
    measure(device, float(options.get("seconds", "420")), Path(file).resolve())
    print(f"written: {file}")


if __name__ == "__main__":
    main(sys.argv[1:])
