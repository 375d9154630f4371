"""The mean of the last checkpoints: wider minima, and less luck in when a run was validated.

Checkpoints of one run lie in one valley, where the mean of the weights is mostly better than each of them
(Izmailov et al., arXiv 1803.05407). Validation chooses, as for soups (Wortsman et al., arXiv 2203.05482).
Batch norm's running statistics are averaged with the weights; measured afresh on windows as rendered,
without the variety of a step, they fit worse (docs/LOG.md, run f).
"""

import copy
from collections import deque

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]


class LastCheckpoints:
    """The weights of the last few networks that were validated."""

    def __init__(self, most: int) -> None:
        self._weights: deque[Weights] = deque(maxlen=most)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._weights)

    def add(self, net: nn.Module) -> None:
        """Remember the weights that `net` has now; the oldest ones are forgotten."""
        self._weights.append({name: t.detach().cpu().clone() for name, t in net.state_dict().items()})

    def mean(self, net: nn.Module) -> nn.Module:
        """A copy of `net`, one of them, with the mean of their weights and statistics."""
        mean = copy.deepcopy(net)
        mean.load_state_dict({name: self._mean(name) for name in self._weights[-1]})
        return mean

    def state_dict(self) -> list[Weights]:
        """What a resumed run needs."""
        return list(self._weights)

    def load_state_dict(self, state: list[Weights]) -> None:
        """Go on from `state_dict`."""
        self._weights.extend(state)

    def _mean(self, name: str) -> Tensor:
        tensors = [weights[name] for weights in self._weights]
        return torch.stack(tensors).mean(0) if tensors[-1].is_floating_point() else tensors[-1]
