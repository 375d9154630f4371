"""The network is causal, looks back as far as it says, and folds its batch norms."""

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

import torch.nn.functional as F  # noqa: E402

from kws import config  # noqa: E402
from kws.errors import ConfigError  # noqa: E402
from kws.train.net import KeywordNet  # noqa: E402
from kws.train.recipe import NetworkSettings, Recipe  # noqa: E402

pytestmark = pytest.mark.train

SMALL = NetworkSettings(channels=6, kernel=3, dilations=(1, 2), stem_kernel=5, stride=2)
FRAMES = 64


@pytest.fixture
def net() -> KeywordNet:
    torch.manual_seed(0)
    net = KeywordNet(SMALL, frame_size=4, n_keywords=2)
    with torch.no_grad():
        for _ in range(5):  # give the batch norms statistics of their own
            net(torch.rand(8, 4, FRAMES) * 8)
    return net.eval()


def test_logits_do_not_depend_on_the_future(net: KeywordNet) -> None:
    x = torch.rand(1, 4, FRAMES)
    assert torch.allclose(net(x)[..., :20], net(x[..., :40]), atol=1e-6)


def test_receptive_field_is_as_long_as_stated(net: KeywordNet) -> None:
    x = torch.rand(1, 4, FRAMES, requires_grad=True)
    net(x)[0, :, -1].sum().backward()
    assert x.grad is not None
    seen = (x.grad[0].abs().sum(0) > 0).nonzero()
    assert FRAMES - int(seen.min()) == net.receptive_field_frames


def test_silence_before_a_clip_changes_nothing(net: KeywordNet) -> None:
    x = torch.rand(1, 4, FRAMES)
    quiet = F.pad(x, (net.receptive_field_frames + 1, 0))  # an even number of frames
    # Silence is zeros, but a batch norm's shift makes later layers see a constant: only the stem must agree.
    assert torch.allclose(net.stem(x), net.stem(quiet)[..., -FRAMES // 2 :], atol=1e-6)


def test_folded_weights_compute_the_same(net: KeywordNet) -> None:
    x = torch.rand(2, 4, FRAMES)
    weight, bias = net.stem.folded()
    folded = F.conv1d(F.pad(x, (net.stem.context, 0)), weight, bias, stride=2)
    assert torch.allclose(folded, net.stem(x), atol=1e-5)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"training": {"steps": 0}}, r"training\.steps is 0, but start names no weights"),
        ({"training": {"steps": -1}}, r"training\.steps must not be negative"),
        ({"training": {"mined_share": 2.0}}, "shares of 1"),
        ({"quantisation": {"calibration_windows": 0}}, r"quantisation\.calibration_windows"),
        ({"data": {"negative_shares": {"music": 1.0}}}, "some of speech, synthetic"),
    ],
)
def test_recipe_that_would_teach_nothing_is_refused(section: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config.parse({"name": "x", "keywords": ["a"], **section}, Recipe)


def test_window_shorter_than_the_receptive_field_is_refused() -> None:
    short = {"name": "x", "keywords": ["a"], "data": {"window_frames": 100}}
    with pytest.raises(ConfigError, match="receptive field of 165"):
        config.parse(short, Recipe)
