"""The network: a causal stack of residual, dense, dilated temporal convolutions, one head for all keywords.

A stem may stride over frames, then each block adds one dilated convolution to its input. Few wide
dense convolutions are chosen over many small or depthwise ones because in ONNX Runtime a node costs about a
microsecond whatever it computes. The shape follows TC-ResNet (arXiv 1904.03814) with the dilations of a TCN
(arXiv 1803.01271). ReLU comes after the addition, so that an integer addition's clamp at zero replaces it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kws.train.recipe import NetworkSettings


@contextmanager
def inference(net: nn.Module) -> Iterator[None]:
    """The network as it is used: no gradients, no dropout, fixed statistics; afterwards as it was."""
    was_training = net.training
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        net.train(was_training)


class ConvNorm(nn.Module):
    """Causal convolution and batch norm: (B, C_in, T) -> (B, C_out, T // stride)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.kernel, self.dilation, self.stride = kernel, dilation, stride
        self.conv = nn.Conv1d(c_in, c_out, kernel, stride=stride, dilation=dilation, bias=False)
        self.norm = nn.BatchNorm1d(c_out)

    @property
    def context(self) -> int:
        """Past frames that a stream has to carry for this layer."""
        return (self.kernel - 1) * self.dilation - (self.stride - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, with silence (zeros) before the first frame."""
        return cast(Tensor, self.norm(self.conv(F.pad(x, (self.context, 0)))))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight (C_out, C_in, kernel) and bias (C_out,) with the batch norm's running statistics inside."""
        variance = cast(Tensor, self.norm.running_var)
        gain = self.norm.weight / torch.sqrt(variance + self.norm.eps)
        return self.conv.weight * gain[:, None, None], self.norm.bias - cast(
            Tensor, self.norm.running_mean
        ) * gain


class KeywordNet(nn.Module):
    """Frames (B, frame_size, T) -> logits (B, keywords, T // stride), causal."""

    def __init__(self, settings: NetworkSettings, frame_size: int, n_keywords: int) -> None:
        super().__init__()
        self.settings, self.frame_size, self.n_keywords = settings, frame_size, n_keywords
        c = settings.channels
        self.stem = ConvNorm(frame_size, c, settings.stem_kernel, stride=settings.stride)
        self.blocks = nn.ModuleList(ConvNorm(c, c, settings.kernel, d) for d in settings.dilations)
        self.dropout = nn.Dropout1d(settings.dropout)
        self.head = nn.Conv1d(c, n_keywords, 1)
        # A keyword is rare: start from "not spoken" instead of from "one in two".
        nn.init.constant_(cast(Tensor, self.head.bias), -3.0)

    @property
    def receptive_field_frames(self) -> int:
        """Frames of past audio, the current one included, that one logit depends on."""
        return self.settings.receptive_field_frames

    def forward(self, x: Tensor) -> Tensor:
        """Logits of whole clips; silence is assumed before the first frame."""
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = F.relu(x + block(x))
        return cast(Tensor, self.head(self.dropout(x)))
