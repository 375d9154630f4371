"""Small random networks, calibrated and quantised, for the tests of the integer side."""

import torch
from torch import Tensor, nn

from kws.train.net import KeywordNet
from kws.train.qat import QuantNet
from kws.train.recipe import NetworkSettings
from kws.train.reference import MAX_WEIGHT

SETTINGS = NetworkSettings(channels=16, kernel=3, dilations=(1, 2, 4))
N_MELS = 40
N_KEYWORDS = 2


def float_net(seed: int = 0, settings: NetworkSettings = SETTINGS, n_mels: int = N_MELS) -> KeywordNet:
    """A network as training could leave it: batch norms that do something."""
    torch.manual_seed(seed)
    net = KeywordNet(settings, n_mels, N_KEYWORDS)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            nn.init.normal_(module.running_mean, 0, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 3)
    return net.eval()


def frames(seed: int = 0, clips: int = 8, length: int = 120, n_mels: int = N_MELS) -> Tensor:
    """Frames (B, n_mels, T) of changing loudness, 0..8 bel."""
    generator = torch.Generator().manual_seed(seed)
    loudness = 8 * torch.rand(clips, 1, length, generator=generator)
    return loudness * torch.rand(clips, n_mels, length, generator=generator)


def quant_net(
    seed: int = 0, settings: NetworkSettings = SETTINGS, weight_limit: int = MAX_WEIGHT
) -> QuantNet:
    """The quantised twin, calibrated."""
    net = QuantNet.from_float(float_net(seed, settings), weight_limit=weight_limit)
    net.calibrate([frames(seed)])
    return net.eval()
