"""More slots from stage to stage, as children of those that reconstruct worst (SlotCurri, sec. 3.3-3.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from einops import rearrange
from torch import Tensor, nn

from vocl import dist
from vocl.config.build import Part
from vocl.curriculum import Curriculum, Stage
from vocl.errors import UserError
from vocl.interface import Event, Output, VideoModel
from vocl.ops.narrow import given
from vocl.ops.random import generator


class SlotCurriculum(Curriculum):
    """Stages of growing `active_slots`; `spawn` fills those that a stage adds, null: they are random.

    All rows exist from the start, so Adam's state is kept. The release enters a stage one step later.
    """

    requires: ClassVar[dict[str, dict[str, str]]] = {
        "spawn": {
            "model.initializer.learned": "has none of the learned slots that it fills; "
            "choose vocl.nn.slot_init.Learned there, or curriculum.spawn=null"
        }
    }
    excludes: ClassVar[dict[str, dict[str, str]]] = {
        "spawn": {
            "model.merge": "puts slots together, and their masks are what spawning judges them by; "
            "choose model.merge=null, or curriculum.spawn=null"
        }
    }

    def __init__(
        self, total_steps: int, seed: int, *, stages: dict[str, Part[Stage]], spawn: Part[SpawnSlots] | None
    ) -> None:
        super().__init__(total_steps, seed, stages=stages)
        for i in range(1, len(self.stages)):
            first, total = (stage.active_slots for stage in self.stages[i - 1 : i + 1])
            if spawn and first and (total is None or total > first):
                self.events[i].append(spawn(first, total, self.starts[i], seed))

    def check(self, parameters: dict[str, nn.Parameter]) -> None:
        super().check(parameters)
        if any(self.events) and "initializer.slots" not in parameters:
            raise UserError("curriculum.spawn: fills initializer.slots, the model has none; choose null")


class SpawnSlots(Event):
    """Before step `start`, fills rows `first` to `total` (None: the last) of the learned slots.

    Errors are measured on the global batch of the step before and kept in the checkpoint (release: on
    one rank, lost at a restart), noise is a function of (`seed`, `start`): all ranks write the same.
    """

    def __init__(
        self,
        first: int,
        total: int | None,
        start: int,
        seed: int,
        *,
        beta: Annotated[float, Gt(0)],
        nn_scope: Literal["active", "all"],
        nn_metric: Literal["euclidean", "cosine"],
        norm_scope: Literal["active", "all"],
    ) -> None:
        self.first, self.total, self.start, self.seed = first, total, start, seed
        self.beta, self.nn_scope, self.nn_metric, self.norm_scope = beta, nn_scope, nn_metric, norm_scope
        self.error: Tensor | None = None  # k

    def observe(self, step: int, output: Output) -> None:
        if step == self.start - 1:
            self.error = (dist.all_sum(slot_error(output)) / dist.world()).cpu()

    def apply(self, model: VideoModel, step: int) -> None:
        """On the host, where all ranks compute alike. Where nothing was seen yet, parents share alike."""
        learned = model.get_parameter("initializer.slots")
        slots = learned.detach()[0].float().cpu()
        num_new = (self.total or len(slots)) - self.first
        children = allot(torch.ones(self.first) if self.error is None else self.error, num_new)
        noise = torch.randn(num_new, slots.shape[1], generator=generator(self.seed, "spawn", self.start))
        with torch.no_grad():
            learned.copy_(self.spawn(slots, children, F.normalize(noise, dim=-1))[None])

    def spawn(self, slots: Tensor, children: list[int], directions: Tensor) -> Tensor:
        """`slots` n d with child = parent + beta distance |parent| / mean norm * direction in the new rows.

        `directions` m d: unit vectors, one per child; `distance`: Euclidean, to the nearest other slot (a
        single slot: its norm). The paper finds that one by Euclidean distance, and the mean norm, among the
        active slots; the release finds it by cosine, and takes all rows: untrained ones, and children
        already written, so that a later parent's offset depends on them.
        """
        slots, row = slots.clone(), self.first
        rows = {"active": slots[: self.first], "all": slots}
        near, normed = rows[self.nn_scope], rows[self.norm_scope]
        unit = F.normalize(near, dim=-1)
        far = torch.cdist(near, near) if self.nn_metric == "euclidean" else -unit @ unit.T
        nearest = far.fill_diagonal_(torch.inf).argmin(dim=-1)
        for parent, count in enumerate(children):
            own = slots[parent]
            distance = (own - slots[nearest[parent]]).norm() if len(near) > 1 else own.norm()
            length = self.beta * distance * own.norm() / (normed.norm(dim=-1).mean() + 1e-8)
            slots[row : row + count] = own + length * directions[:count]
            row, directions = row + count, directions[count:]
        return slots

    def state_dict(self) -> dict[str, Any]:
        return {"error": self.error}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.error = state["error"]


@torch.no_grad()
def slot_error(output: Output) -> Tensor:
    """Mean k of a patch's squared error times the slot's mask, not divided by the mask's mass: an idle
    slot answers for almost nothing and gets no children."""
    error = (given(output.recon).float() - given(output.target).float()).square()
    error = rearrange(error, "b t c h w -> b t (h w) c") if error.ndim == 5 else error
    return (given(output.masks).float() * error.mean(dim=-1).unsqueeze(2)).mean(dim=(0, 1, 3))


def allot(error: Tensor, num_new: int) -> list[int]:
    """Children per parent in proportion to `error` k, by largest remainders; ties to the lower index."""
    told = (
        0 < error.sum() < torch.inf
    )  # of a step that overflowed, which is read and refused later, nothing is
    error = error.double() if told else torch.ones_like(error).double()
    wanted = error / error.sum() * num_new
    counts = wanted.floor()
    order = (wanted - counts).sort(descending=True, stable=True).indices
    counts[order[: num_new - int(counts.sum())]] += 1
    return [int(count) for count in counts]
