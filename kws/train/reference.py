"""The integer network in numpy: the contract, and the oracle that every exported model equals bit for bit.

Activations are uint8 with one scale and zero point per tensor, weights int8 with one scale per output channel
and |w| <= 64, biases int32 at in_scale * weight_scale. ReLU is the clamp at a zero point of 0.

A convolution requantises in float32, in one fixed order, and ONNX Runtime does the same everywhere. A
residual addition is another matter: x86 chains fused multiply-adds, NEON uses 22-bit fixed point and rounds
halves away from zero, so that near a half the same model gives another code on another processor. Hence the
scales of an addition are moved, by about one part in 60 000, to where all of them are exact and no sum is a
half (`exact_residual`).
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.errors import CheckFailed
from kws.features import FRAME_STEP_BEL

Codes = NDArray[np.uint8]

INPUT_SCALE = float(np.float32(FRAME_STEP_BEL))
"""Bel per step of the graph's input."""
INPUT_ZERO = 0
"""Digital silence is 0 bel."""
MAX_WEIGHT = 64
"""AVX2 adds pairs of uint8 * int8 products in saturating int16: 255 * 64 * 2 still fits."""
RATIO_BITS = 16
"""Significant bits of an addition's scale ratios: times an 8-bit code they still fit a float32."""


@dataclass(frozen=True)
class IntegerConv:
    """A causal convolution over codes."""

    weight: NDArray[np.int8]
    """(C_out, C_in, kernel)."""
    weight_scale: NDArray[np.float32]
    """(C_out,)."""
    bias: NDArray[np.int32]
    """(C_out,), in steps of in_scale * weight_scale."""
    dilation: int
    stride: int
    in_scale: float
    in_zero: int
    out_scale: float
    out_zero: int

    @property
    def context(self) -> int:
        """Past frames that a stream has to carry for this layer."""
        return (self.weight.shape[2] - 1) * self.dilation - (self.stride - 1)

    @property
    def largest_accumulator(self) -> int:
        """Bound of |accumulator| over all inputs."""
        reach = np.abs(self.weight.astype(np.int64)).sum((1, 2)) * 255
        return int((reach + np.abs(self.bias.astype(np.int64))).max())

    def run(self, x: Codes) -> Codes:
        """Whole clip (T, C_in) -> (T // stride, C_out); real zeros, i.e. `in_zero`, lie before it."""
        # float64 holds these sums exactly and, unlike integers, has a fast matrix product.
        centred = np.pad(x.astype(np.float64) - self.in_zero, ((self.context, 0), (0, 0)))
        steps = x.shape[0] // self.stride
        last = (steps - 1) * self.stride + 1
        accumulator = np.tile(self.bias.astype(np.float64), (steps, 1))
        for tap in range(self.weight.shape[2]):
            rows = centred[tap * self.dilation :][: last : self.stride]
            accumulator += rows @ self.weight[:, :, tap].T.astype(np.float64)
        scale = np.float32(self.in_scale) * self.weight_scale / np.float32(self.out_scale)  # in this order
        y = accumulator.astype(np.float32) * scale
        y = np.clip(y, np.float32(-self.out_zero), np.float32(255 - self.out_zero))  # clamp while still float
        return (np.rint(y) + np.float32(self.out_zero)).astype(np.uint8)  # half to even, then the zero point


@dataclass(frozen=True)
class IntegerAdd:
    """ReLU(x + y) over codes; x and the result have zero point 0, y (a convolution) is signed."""

    x_scale: float
    y_scale: float
    y_zero: int
    out_scale: float

    def run(self, x: Codes, y: Codes) -> Codes:
        """Add two tensors of the same shape."""
        x_ratio, y_ratio = map(np.float64, self._ratios())
        total = x * x_ratio + (y.astype(np.float64) - self.y_zero) * y_ratio
        return np.clip(np.rint(total), 0, 255).astype(np.uint8)

    def is_exact(self) -> bool:
        """Whether every processor gives the same code for each of the 65 536 pairs of codes."""
        x_real, y_real = map(float, self._ratios())
        bits = _fraction_bits(x_real, y_real)
        x_ratio, y_ratio = math.ldexp(x_real, bits), math.ldexp(y_real, bits)
        if not (x_ratio.is_integer() and y_ratio.is_integer()):
            return False
        return _has_no_half(int(x_ratio), int(y_ratio), self.y_zero, bits)

    def _ratios(self) -> tuple[np.float32, np.float32]:
        out = np.float32(self.out_scale)
        return np.float32(self.x_scale) / out, np.float32(self.y_scale) / out


@dataclass(frozen=True)
class IntegerNet:
    """The whole network as integers."""

    stem: IntegerConv
    blocks: tuple[tuple[IntegerConv, IntegerAdd], ...]
    head: IntegerConv

    def convolutions(self) -> Iterator[tuple[str, IntegerConv]]:
        """Every convolution with the name that the graph and the manifest give it, in order."""
        yield "stem", self.stem
        for index, (conv, _) in enumerate(self.blocks):
            yield f"block{index}", conv
        yield "head", self.head

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return sum(conv.weight.size + conv.bias.size for _, conv in self.convolutions())

    @property
    def receptive_field_frames(self) -> int:
        """Frames of past audio, the current one included, that one logit depends on."""
        strided = sum(conv.context for conv, _ in self.blocks) + self.head.context
        return self.stem.weight.shape[2] + self.stem.stride * strided

    def run(self, codes: Codes) -> Codes:
        """Logit codes (T // stride, K) of a whole clip (T, frame_size), T a multiple of the stride."""
        x = self.stem.run(codes)
        for conv, add in self.blocks:
            x = add.run(x, conv.run(x))
        return self.head.run(x)


def quantise(values: NDArray[Any], scale: float = INPUT_SCALE, zero: int = INPUT_ZERO) -> Codes:
    """Real values -> codes: the rule for the graph's input."""
    return np.clip(np.rint(values / np.float32(scale)) + zero, 0, 255).astype(np.uint8)


def exact_residual(x_scale: float, y_scale: float, y_zero: int, out_scale: float) -> IntegerAdd:
    """The addition nearest to the wanted scales that is exact on every processor; `x_scale` stays.

    Raises CheckFailed when there is none, which takes scales that differ by orders of magnitude.
    """
    bits = _fraction_bits(x_scale / out_scale, y_scale / out_scale)
    nearest_first = sorted(itertools.product(range(-16, 17), repeat=2), key=lambda pair: sum(map(abs, pair)))
    for x_offset, y_offset in nearest_first:
        x_ratio = max(1, round(math.ldexp(x_scale / out_scale, bits)) + x_offset)
        out = np.float32(math.ldexp(x_scale, bits) / x_ratio)
        y_ratio = max(1, round(math.ldexp(y_scale / float(out), bits)) + y_offset)
        y = np.float32(math.ldexp(y_ratio * float(out), -bits))
        add = IntegerAdd(x_scale, float(y), y_zero, float(out))
        if add.is_exact():
            return add
    raise CheckFailed(
        f"no exact addition exists near the scales {x_scale:g} + {y_scale:g} -> {out_scale:g}; "
        "calibrate on more varied audio"
    )


def _fraction_bits(x_ratio: float, y_ratio: float) -> int:
    """Bits after the point that give the larger ratio RATIO_BITS significant ones.

    At most RATIO_BITS: beyond, a sum could leave float32's exact range before it leaves 0..255.
    """
    exponent = math.frexp(max(x_ratio, y_ratio))[1]
    return min(RATIO_BITS, RATIO_BITS - exponent)


def _has_no_half(x_ratio: int, y_ratio: int, y_zero: int, bits: int) -> bool:
    """Whether no sum within 0..255 lies half way between two codes, where rounding rules differ."""
    codes = np.arange(256, dtype=np.int64)
    total = codes[:, None] * x_ratio + (codes[None, :] - y_zero) * y_ratio
    halves = (total & ((1 << bits) - 1)) == 1 << (bits - 1)
    return not bool((halves & (total > 0) & (total < 255 << bits)).any())
