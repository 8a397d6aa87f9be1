"""How long a training step on a GPU waits for its clips, by the cost of a frame on one core and by trial.

Run from the repository root: `python benchmarks/stall.py`. No GPU is needed. Needed: the frames of a step
over its time, which is its counted operations over 0.4 of the GPU's dense bf16 rate. Had: 15 loader
processes of 16 cores, at the measured time of one for a clip, ready to be sent: read, decoded, stacked.
`fitted`, the baseline: they also resize, mirror and normalise, as without a GPU; `stored`: a GPU does.
`ratio` is needed over had, `stored`, for MOVi-C of 256 px (PNG, as published) on an H200: at most 1, or the
GPU waits. The papers train on the release of 128 px, `movi_c_128`.

By trial, at a fifteenth of that rate: one process, with as many frames as it has to deliver for a step;
while the step lasts, the training sleeps, as one does whose GPU computes. `stall` is the share of the
time in which it waits. `bytes`: of frames, from the host to the GPU, for each step.
"""

from __future__ import annotations

import functools
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import counts
import stores
import torch

from vocl import assemble
from vocl.config.compose import composed
from vocl.data import feed as feeds
from vocl.data.feed import Feed
from vocl.data.loaders import Loaders, tensors
from vocl.data.store.source import Stored

LOADERS, ROUNDS, CLIP, TRIALS = 15, 4, 4, 2
STEPS = {"stored": 40, "fitted": 6}  # of a trial
FORMS = {"stored": True, "fitted": False}


@dataclass(frozen=True)
class Case:
    """A published experiment, and videos of the kind that it is trained on."""

    experiment: str
    size: tuple[int, int]
    kind: str
    videos: int
    length: int

    def feed(self, root: Path, name: str) -> Feed:
        """Few clips of such videos, as a core's share of a step is, cut and shaped for the experiment."""
        stores.make_folders(
            root / f"{name}_", self.videos, self.length, self.size, masks=False, kind=self.kind
        )
        stores.make_store(root / f"{name}_", root / name, workers=2, shard_mb=512)
        dataset = assemble.make_dataset(composed([f"experiment={self.experiment}"]))
        return Feed(Stored("train", root, name=name, train="train"), dataset, 0, 4, CLIP)


CASES = {
    "movi_c": Case("slotcontrast/movi_c", (256, 256), "png", videos=6, length=24),
    "movi_c_128": Case("slotcontrast/movi_c", (128, 128), "png", videos=6, length=24),
    "ytvis2021": Case("slotcontrast/ytvis2021", (720, 1280), "jpg", videos=2, length=12),
}


counted_of = functools.cache(counts.count)


def frames_per_s(feed: Feed, form: str, start: int) -> float:
    """Of one core, for one batch."""
    began = time.perf_counter()
    feed.unfitted(start, stored=True) if FORMS[form] else feed.batch(start)
    return feed.size * feed.frames / (time.perf_counter() - began)


def bytes_of(feed: Feed, form: str) -> int:
    """Of frames, per clip."""
    made = feed.unfitted(0, stored=True).parts if FORMS[form] else feed.batch(0).video
    return sum(tensor.nbytes for tensor in tensors(made)) // feed.size


def stall(feed: Feed, form: str, step_s: float, steps: int) -> float:
    """The share of the time that the training waits for one loader process."""
    make = functools.partial(feed.unfitted, stored=True) if FORMS[form] else feed.batch
    waited = 0.0
    with Loaders(make, range(steps + 3), 1) as loaders, ThreadPoolExecutor(1) as beside:
        coming = beside.submit(loaders.take)  # as the thread of a GPU's pinned memory
        for step in range(steps + 2):
            asked = time.perf_counter()
            coming.result()
            coming = beside.submit(loaders.take)
            waited += time.perf_counter() - asked if step > 1 else 0.0  # the first ones are waited for anyway
            time.sleep(step_s)
    return waited / (waited + steps * step_s)


def measure(name: str, case: Case, feed: Feed) -> tuple[float, float]:
    """Print all about a case; the ratio and the time of a step on an H200."""
    counted = counted_of(case.experiment)
    frames = counted.clips * counted.frames
    rates = {form: max(frames_per_s(feed, form, round_) for round_ in range(ROUNDS)) for form in FORMS}
    seconds = {gpu: counted.flops / (peak * counts.REACHED) for gpu, (peak, _) in counts.GPUS.items()}
    for form, rate in rates.items():
        sent = bytes_of(feed, form) * counted.clips
        print(f"{name} {form}: one_core_ms_per_frame={1000 / rate:.2f} bytes={sent / 2**20:.0f}MiB")
        for gpu, step_s in seconds.items():
            needed, had = frames / step_s, LOADERS * rate
            share = max(0.0, 1 - had / needed)
            print(f"  {gpu}: step_s={step_s:.3f} needed={needed:.0f}/s had={had:.0f}/s stall={share:.2f}")
    return frames / seconds["H200"] / (LOADERS * rates["stored"]), seconds["H200"]


def main() -> None:
    torch.set_num_threads(1)  # as in a loader process
    feeds.CACHE_BYTES = 0  # a published split has more frames than are kept
    ratios, trials = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            feed = case.feed(Path(folder), name)
            ratios[name], step_s = measure(name, case, feed)
            if name == "movi_c":
                share = feed.size * CLIP * LOADERS / (64 * CLIP)  # of a process's frames for a step
                for _ in range(TRIALS):
                    trials.append({form: stall(feed, form, step_s * share, STEPS[form]) for form in FORMS})
    for form in FORMS:
        print(f"trial movi_c {form}: stall={min(trial[form] for trial in trials):.3f}")
    for name in ("movi_c_128", "ytvis2021"):
        print(f"{name}_ratio={ratios[name]:.3f}")
    print(f"ratio={ratios['movi_c']:.3f}")


if __name__ == "__main__":
    main()
