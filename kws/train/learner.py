"""A network on its way through one phase of training: optimiser, schedule, averaged weights, progress."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kws.train.checkpoints import LastCheckpoints
from kws.train.processes import Processes
from kws.train.qat import QuantNet
from kws.train.recipe import Training
from kws.train.validation import Result

Phase = Literal["float", "qat"]
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""
LARGEST_GRADIENT = 1.0
"""Gradients are scaled down to this norm."""


@dataclass(frozen=True)
class Plan:
    """How long and how fast one phase learns."""

    phase: Phase
    first_step: int
    """Steps of the phases before: numbers batches through the whole run."""
    steps: int
    learning_rate: float
    weight_decay: float
    scale_learning_rate: float = 0.0


class Learner:
    """A network with its optimiser, averaged weights and progress through one phase."""

    def __init__(self, net: nn.Module, plan: Plan, training: Training, everyone: Processes) -> None:
        self.net, self.plan = net, plan
        self.parallel = everyone.parallel(net)
        """What computes the logits of a batch; the same as `net` in a single process."""
        self.optimiser = _optimiser(net, plan)
        moving = get_ema_multi_avg_fn(training.average_decay)
        self.average = AveragedModel(net, multi_avg_fn=moving, use_buffers=True)
        self.checkpoints = LastCheckpoints(training.averaged_checkpoints)
        """Averaged weights as they were validated."""
        self.step = 0
        """Steps taken."""
        self.best: Result | None = None
        """Validation of the weights that were kept."""

    def descend(self, loss: Tensor) -> None:
        """One step down the gradient."""
        rate = _schedule(self.step / self.plan.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak_lr"] * rate
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self.average.update_parameters(self.net)
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "checkpoints": self.checkpoints.state_dict(),
            "step": self.step,
            "best": asdict(self.best) if self.best else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.checkpoints.load_state_dict(state["checkpoints"])
        self.step = state["step"]
        self.best = Result(**state["best"]) if state["best"] else None


def _optimiser(net: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    scales = net.scale_parameters() if isinstance(net, QuantNet) else []
    apart = {id(p) for p in scales}
    weights = [p for p in net.parameters() if p.dim() > 1 and id(p) not in apart]
    others = [p for p in net.parameters() if p.dim() <= 1 and id(p) not in apart]
    groups = [
        {"params": weights, "weight_decay": plan.weight_decay, "peak_lr": plan.learning_rate},
        {"params": others, "weight_decay": 0.0, "peak_lr": plan.learning_rate},
    ]
    if scales:
        groups.append({"params": scales, "weight_decay": 0.0, "peak_lr": plan.scale_learning_rate})
    return torch.optim.AdamW(groups, lr=plan.learning_rate)


def _schedule(progress: float) -> float:
    """Learning rate over its peak: a linear rise, then half a cosine."""
    if progress < WARM_UP:
        return progress / WARM_UP + 1e-3
    return 0.5 * (1 + math.cos((progress - WARM_UP) / (1 - WARM_UP) * math.pi))
