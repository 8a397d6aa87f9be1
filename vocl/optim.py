"""One optimizer for the whole run; a parameter without gradient keeps its value and its moments."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from vocl.config.build import Part
from vocl.errors import UserError
from vocl.interface import Schedule

Kind = TypeVar("Kind", bound=torch.optim.Optimizer)


def _uncompiled(kind: type[Kind]) -> type[Kind]:
    """`kind` of torch without what wraps its methods for torch.compile, which no optimizer here meets.

    Its first call would import the compiler, which takes most of the time that `import torch` takes.
    """
    wrapped = ("add_param_group", "zero_grad", "state_dict", "load_state_dict")
    methods: dict[str, Any] = {name: inspect.unwrap(getattr(kind, name)) for name in wrapped}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)


class Optimizer:
    """The settings of a torch optimizer, and the schedule of its peak rate.

    Subclasses make the torch optimizer. `rate(step)` is the run-wide rate; the stages of the
    curriculum scale it per parameter.
    """

    def __init__(self, total_steps: int, *, lr: float, weight_decay: float, schedule: Part[Schedule]) -> None:
        self.lr, self.weight_decay = lr, weight_decay
        self.schedule = schedule(total_steps)

    def rate(self, step: int) -> float:
        """Peak rate times the schedule at `step`."""
        return self.lr * self.schedule(step)

    def decays(self, parameter: nn.Parameter) -> bool:
        """Whether weight decay applies to `parameter`."""
        return True

    def over(self, parameters: ParamsT) -> torch.optim.Optimizer:
        """The torch optimizer over `parameters` (groups that the stages treat alike)."""
        raise NotImplementedError


class Adam(Optimizer):
    """Adam; `lr` is the peak rate."""

    kind: type[torch.optim.Adam] = _uncompiled(torch.optim.Adam)

    def __init__(
        self,
        total_steps: int,
        *,
        lr: Annotated[float, Gt(0)],
        betas: list[float],
        eps: Annotated[float, Gt(0)],
        weight_decay: Annotated[float, Ge(0)],
        schedule: Part[Schedule],
    ) -> None:
        super().__init__(total_steps, lr=lr, weight_decay=weight_decay, schedule=schedule)
        if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
            raise UserError(f"optim.betas={betas}: expected two numbers from 0 to below 1")
        self.betas, self.eps = (betas[0], betas[1]), eps

    def over(self, parameters: ParamsT) -> torch.optim.Optimizer:
        return self.kind(
            parameters, lr=0.0, betas=self.betas, eps=self.eps, weight_decay=self.weight_decay, foreach=True
        )


class AdamW(Adam):
    """Adam with decoupled weight decay.

    `decay`: "all" parameters, or "matrices", those of two or more dimensions: biases and the gains
    of norms are then left alone.
    """

    kind = _uncompiled(torch.optim.AdamW)

    def __init__(
        self,
        total_steps: int,
        *,
        lr: Annotated[float, Gt(0)],
        betas: list[float],
        eps: Annotated[float, Gt(0)],
        weight_decay: Annotated[float, Ge(0)],
        decay: Literal["all", "matrices"],
        schedule: Part[Schedule],
    ) -> None:
        super().__init__(
            total_steps, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, schedule=schedule
        )
        self.decay = decay

    def decays(self, parameter: nn.Parameter) -> bool:
        return self.decay == "all" or parameter.ndim > 1


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    kind = _uncompiled(torch.optim.SGD)

    def __init__(
        self,
        total_steps: int,
        *,
        lr: Annotated[float, Gt(0)],
        momentum: Annotated[float, Ge(0)],
        weight_decay: Annotated[float, Ge(0)],
        schedule: Part[Schedule],
    ) -> None:
        super().__init__(total_steps, lr=lr, weight_decay=weight_decay, schedule=schedule)
        self.momentum = momentum

    def over(self, parameters: ParamsT) -> torch.optim.Optimizer:
        return self.kind(
            parameters, lr=0.0, momentum=self.momentum, weight_decay=self.weight_decay, foreach=True
        )


def clip_on_device(
    parameters: Iterable[nn.Parameter], norm: Tensor, numbers: Tensor, most: float | None
) -> None:
    """Scale gradients of global `norm` so that it is at most `most`, on their device.

    Where one of `numbers` is not finite they become zeros. The host is told nothing and waits for
    nothing. `most` None: they are not scaled.
    """
    finite, scale = torch.isfinite(numbers).all(), torch.ones_like(norm)
    if most is not None:
        scale = (most / (norm + 1e-6)).clamp(max=1.0)
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad = torch.where(finite, parameter.grad * scale, 0)
