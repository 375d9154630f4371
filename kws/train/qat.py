"""Quantisation-aware training: the network's twin whose every tensor already lies on its integer grid.

Scales are learned (LSQ, arXiv 1902.08153) as logarithms, so that one learning rate suits them all and none
can turn negative. Batch norm is folded before. `QuantNet.integers` reads off the integer network of
`kws.train.reference`; both agree but for rounding ties.

Run it in float32: the 8 mantissa bits of bfloat16 cannot hold 256 codes and a scale.
"""

import math
from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kws.errors import DataError
from kws.train.net import ConvNorm, KeywordNet
from kws.train.recipe import NetworkSettings
from kws.train.reference import (
    INPUT_SCALE,
    INPUT_ZERO,
    MAX_WEIGHT,
    IntegerConv,
    IntegerNet,
    exact_residual,
)

SMALLEST_RANGE = 1e-3
"""Real width of the narrowest tensor: keeps the scale of a dead channel away from zero."""


class _Round(torch.autograd.Function):
    """Round x / scale to integers in low..high, scale back; straight-through, with LSQ's scale gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: float, high: float) -> Tensor:
        steps = x / scale
        codes = torch.round(steps).clamp_(low, high)
        ctx.save_for_backward(steps, codes, scale)
        return codes * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        steps, codes, scale = ctx.saved_tensors
        # Not clamped exactly where rounding alone explains the code; elsewhere x has no influence.
        x_gradient = gradient.masked_fill(torch.round(steps) != codes, 0.0)
        if scale.numel() == 1:
            s_gradient = torch.dot(gradient.flatten(), codes.flatten())
            s_gradient = (s_gradient - torch.dot(x_gradient.flatten(), steps.flatten())).view_as(scale)
        else:
            s_gradient = (gradient * codes - x_gradient * steps).sum((1, 2), keepdim=True)
        return x_gradient, s_gradient, None, None


class FakeQuant(nn.Module):
    """Quantise and dequantise once `start` has been called; before, pass (or rectify) the tensor.

    An activation has one scale and codes 0..255 around an integer zero point, which is 0 for a rectified one:
    the clamp is its ReLU. A weight (`channels` given) has a scale per output channel and codes -limit..limit.
    """

    zero_point: Tensor

    def __init__(self, channels: int | None = None, limit: int = MAX_WEIGHT, rectify: bool = False) -> None:
        super().__init__()
        self.limit, self.rectify, self.active = limit, rectify, False
        shape = () if channels is None else (channels, 1, 1)
        self.log_scale = nn.Parameter(torch.zeros(shape))
        self.register_buffer("zero_point", torch.tensor(0.0))
        self._low, self._high = 0.0, 0.0

    @property
    def scale(self) -> Tensor:
        """Real value of one code step: () or (C, 1, 1)."""
        return self.log_scale.exp()

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Choose scale and zero point for real values from `low` <= 0 to `high`; scalars or (C, 1, 1)."""
        weights = self.log_scale.dim() > 0
        width = (high - low).clamp_min(SMALLEST_RANGE)
        self.log_scale.copy_((width / (2 * self.limit if weights else 255)).log())
        if not weights:
            self.zero_point.copy_((-low / self.scale).round().clamp(0, 255))

    def start(self) -> None:
        """Quantise from now on; the zero point stays as it is."""
        zero = float(self.zero_point)  # read once: reading it in every step would stall a GPU
        weights = self.log_scale.dim() > 0
        self._low, self._high = (-self.limit, self.limit) if weights else (-zero, 255 - zero)
        self.active = True

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and meaning, on the grid."""
        if not self.active:
            return F.relu(x) if self.rectify else x
        return cast(Tensor, _Round.apply(x, self.scale, self._low, self._high))


class QuantConv(nn.Module):
    """A convolution with folded batch norm, quantised weight, bias and result."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int,
        *,
        dilation: int = 1,
        stride: int = 1,
        rectify: bool = False,
        limit: int,
    ) -> None:
        super().__init__()
        self.dilation, self.stride = dilation, stride
        self.context = (kernel - 1) * dilation - (stride - 1)
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.weight_quant = FakeQuant(c_out, limit)
        self.quant = FakeQuant(rectify=rectify)

    @torch.no_grad()
    def load(self, weight: Tensor, bias: Tensor) -> None:
        """Take float weights, the scale per channel from their largest one."""
        self.weight.copy_(weight)
        self.bias.copy_(bias)
        largest = weight.abs().amax((1, 2), keepdim=True)
        self.weight_quant.set_range(-largest, largest)

    def forward(self, x: Tensor, in_scale: Tensor | float) -> Tensor:
        """Convolve (B, C_in, T), already on a grid of `in_scale`, with silence before it."""
        weight: Tensor = self.weight_quant(self.weight)
        bias: Tensor = self.bias
        if self.weight_quant.active:  # the bias is an integer too, in steps of the accumulator
            step = (self.weight_quant.scale.flatten() * in_scale).detach()
            bias = bias + (torch.round(bias / step) * step - bias).detach()
        x = F.conv1d(F.pad(x, (self.context, 0)), weight, bias, self.stride, dilation=self.dilation)
        return cast(Tensor, self.quant(x))

    def integers(self, in_scale: float, in_zero: int, out_scale: float) -> IntegerConv:
        """The same convolution in integers, reading and writing the given scales."""
        scale = self.weight_quant.scale.detach().cpu().numpy()
        limit = self.weight_quant.limit
        weight = np.clip(np.rint(self.weight.detach().cpu().numpy() / scale), -limit, limit)
        scale = scale.reshape(-1)
        bias = np.rint(self.bias.detach().cpu().numpy() / (scale * np.float32(in_scale)))
        return IntegerConv(
            weight=weight.astype(np.int8),
            weight_scale=scale,
            bias=bias.astype(np.int32),
            dilation=self.dilation,
            stride=self.stride,
            in_scale=in_scale,
            in_zero=in_zero,
            out_scale=out_scale,
            out_zero=int(self.quant.zero_point),
        )


class QuantNet(nn.Module):
    """`KeywordNet` with fake quantisation: frames (B, frame_size, T) -> logits (B, keywords, T // stride).

    A new one computes in float (batch norm folded) until `calibrate`; one that has loaded a state quantises.
    """

    def __init__(
        self, settings: NetworkSettings, frame_size: int, n_keywords: int, *, weight_limit: int = MAX_WEIGHT
    ) -> None:
        super().__init__()
        self.settings, self.frame_size, self.n_keywords = settings, frame_size, n_keywords
        c = settings.channels
        self.stem = QuantConv(
            frame_size, c, settings.stem_kernel, stride=settings.stride, rectify=True, limit=weight_limit
        )
        self.blocks = nn.ModuleList(
            QuantConv(c, c, settings.kernel, dilation=d, limit=weight_limit) for d in settings.dilations
        )
        self.adds = nn.ModuleList(FakeQuant(rectify=True) for _ in settings.dilations)
        self.head = QuantConv(c, n_keywords, 1, limit=weight_limit)
        self.register_load_state_dict_post_hook(_start)

    @classmethod
    def from_float(cls, net: KeywordNet, *, weight_limit: int = MAX_WEIGHT) -> "QuantNet":
        """Fold the batch norms of a trained network into a new twin, which still has to be calibrated.

        There is no dropout: fine-tuning is short.
        """
        quant = cls(net.settings, net.frame_size, net.n_keywords, weight_limit=weight_limit)
        quant.to(net.head.weight.device)
        quant.stem.load(*net.stem.folded())
        for mine, trained in zip(quant.blocks, net.blocks, strict=True):
            cast(QuantConv, mine).load(*cast(ConvNorm, trained).folded())
        quant.head.load(net.head.weight, cast(Tensor, net.head.bias))
        return quant

    def forward(self, x: Tensor) -> Tensor:
        """Logits of whole clips; frames are real bels."""
        if self.stem.quant.active:
            x = torch.round(x / INPUT_SCALE).clamp_(0, 255) * INPUT_SCALE
        x, scale = self.stem(x, INPUT_SCALE), self.stem.quant.scale
        for block, add in zip(self.blocks, self.adds, strict=True):
            x = add(x + block(x, scale))
            scale = cast(FakeQuant, add).scale
        return cast(Tensor, self.head(x, scale))

    def scale_parameters(self) -> list[nn.Parameter]:
        """The learned scales (logarithms), for an optimiser group without weight decay."""
        return [module.log_scale for module in self.modules() if isinstance(module, FakeQuant)]

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Set every activation's range to what batches of frames (B, frame_size, T) show, then quantise."""
        ranges: dict[nn.Module, tuple[Tensor, Tensor]] = {}

        def watch(module: nn.Module, _: Any, output: Tensor) -> None:
            low, high = ranges.get(module, (output.new_zeros(()), output.new_zeros(())))
            ranges[module] = torch.minimum(low, output.min()), torch.maximum(high, output.max())

        quants = [module for module in self.modules() if isinstance(module, FakeQuant)]
        activations = [quant for quant in quants if quant.log_scale.dim() == 0]
        for quant in quants:
            quant.active = False
        hooks = [quant.register_forward_hook(watch) for quant in activations]
        try:
            for frames in batches:
                self(frames)
        finally:
            for hook in hooks:
                hook.remove()
        if not ranges:
            raise DataError("there is no audio to calibrate with; give at least one batch")
        for quant in activations:
            quant.set_range(*ranges[quant])
        _start(self)

    @torch.no_grad()
    def integers(self) -> IntegerNet:
        """The integer network that computes the same, but for rounding ties.

        The additions' scales are moved to exact ones here too, by about one part in 60 000.
        """
        x_scale = float(self.stem.quant.scale)
        stem = self.stem.integers(INPUT_SCALE, INPUT_ZERO, x_scale)
        blocks = []
        for module, quant in zip(self.blocks, self.adds, strict=True):
            block, out = cast(QuantConv, module), cast(FakeQuant, quant)
            y_scale, y_zero = float(block.quant.scale), int(block.quant.zero_point)
            add = exact_residual(x_scale, y_scale, y_zero, float(out.scale))
            block.quant.log_scale.fill_(math.log(add.y_scale))
            out.log_scale.fill_(math.log(add.out_scale))
            blocks.append((block.integers(x_scale, 0, add.y_scale), add))
            x_scale = add.out_scale
        head = self.head.integers(x_scale, 0, float(self.head.quant.scale))
        return IntegerNet(stem, tuple(blocks), head)


def _start(net: nn.Module, _keys: Any = None) -> None:
    """Switch quantisation on everywhere; also called when a state has been loaded."""
    for module in net.modules():
        if isinstance(module, FakeQuant):
            module.start()
