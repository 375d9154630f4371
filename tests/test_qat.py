"""Fake quantisation: gradients, calibration, and a bit width at which only working training recovers."""

import copy
import math

import pytest

torch = pytest.importorskip("torch")
from quantnets import float_net, frames, quant_net  # noqa: E402
from torch import Tensor  # noqa: E402

from kws.errors import DataError  # noqa: E402
from kws.train.qat import FakeQuant, QuantNet  # noqa: E402
from kws.train.recipe import NetworkSettings  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)


def sqnr_db(wanted: Tensor, got: Tensor) -> float:
    """Signal over error; the signal is what varies within each keyword's logits."""
    wanted, got = wanted.detach(), got.detach()
    signal = wanted - wanted.mean((0, 2), keepdim=True)
    return 20 * math.log10(float(signal.norm() / (wanted - got).norm()))


def distil(student: QuantNet, teacher: torch.nn.Module, steps: int = 150) -> None:
    """Train whatever still wants gradients to repeat the teacher's logits."""
    wanted = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimiser = torch.optim.Adam(wanted, lr=2e-3)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for step in range(steps):
        batch = frames(step, clips=4, n_mels=12)
        loss = (student(batch) - teacher(batch).detach()).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        decay.step()


@pytest.mark.parametrize("channels", [None, 6])
def test_gradients_equal_those_of_the_written_out_straight_through_estimator(channels: int | None) -> None:
    torch.manual_seed(0)
    quant = FakeQuant(channels, limit=3)
    x = torch.randn(6, 5, 7, requires_grad=True)
    quant.set_range(
        x.detach().amin() / 2, x.detach().amax() / 2
    )  # half of the range: some values are clamped
    quant.start()
    weight = torch.randn(6, 5, 7)

    (quant(x) * weight).sum().backward()
    got = x.grad.clone(), quant.log_scale.grad.clone()
    x.grad = quant.log_scale.grad = None

    low, high = (-3, 3) if channels else (-quant.zero_point, 255 - quant.zero_point)
    steps = x / quant.scale
    codes = (steps + (steps.round() - steps).detach()).clamp(low, high)
    (codes * quant.scale * weight).sum().backward()
    assert torch.allclose(got[0], x.grad)
    assert torch.allclose(got[1], quant.log_scale.grad, rtol=1e-4)
    assert got[1].abs().min() > 0


def test_before_calibration_the_twin_is_the_float_network_with_batch_norm_folded() -> None:
    net = float_net()
    assert torch.allclose(QuantNet.from_float(net)(frames()), net(frames()), atol=1e-5)


def test_calibrated_twin_stays_close_to_the_float_network() -> None:
    assert sqnr_db(float_net()(frames()), quant_net()(frames())) > 25


def test_rectified_tensors_have_zero_point_zero_and_signed_ones_do_not() -> None:
    net = quant_net()
    assert net.stem.quant.zero_point == 0
    assert all(add.zero_point == 0 for add in net.adds)
    assert all(0 < block.quant.zero_point < 255 for block in net.blocks)


def test_calibrate_without_audio_is_an_error() -> None:
    with pytest.raises(DataError, match="at least one batch"):
        QuantNet.from_float(float_net()).calibrate([])


def test_every_parameter_learns_scales_included() -> None:
    net = quant_net().train()
    net(frames()).square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in net.parameters())
    assert (
        len(net.scale_parameters()) == 2 * 5 + 3
    )  # a weight and a result per convolution, and the additions


def test_silence_gives_the_same_logits_at_every_step() -> None:
    logits = quant_net()(torch.zeros(1, 40, 200))
    assert torch.equal(logits[..., 50:], logits[..., 50:51].expand_as(logits[..., 50:]))


def test_state_survives_a_file_and_quantises_at_once(tmp_path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    net = quant_net()
    safetensors.save_file(net.state_dict(), tmp_path / "qat.safetensors")
    other = QuantNet(net.settings, net.frame_size, net.n_keywords)
    other.load_state_dict(safetensors.load_file(tmp_path / "qat.safetensors"))
    assert torch.equal(other.eval()(frames()), net(frames()))


def test_integers_move_the_scales_once_and_hardly() -> None:
    net = quant_net()
    before = copy.deepcopy(net)
    first = net.integers()
    second = net.integers()
    assert [add for _, add in first.blocks] == [add for _, add in second.blocks]
    pairs = zip(net.scale_parameters(), before.scale_parameters(), strict=True)
    moved = [abs(float((after - scale).detach())) for after, scale in pairs if after.dim() == 0]
    assert max(moved) < 1e-3


def test_three_bit_weights_are_recovered_by_training_only() -> None:
    """8 bits cannot tell working training from broken training: there, calibration alone does no harm."""
    settings = NetworkSettings(channels=24, kernel=3, dilations=(1, 2, 4))
    teacher, unseen = float_net(1, settings, n_mels=12), frames(99, n_mels=12)

    def calibrated(weight_limit: int) -> QuantNet:
        net = QuantNet.from_float(teacher, weight_limit=weight_limit)
        net.calibrate([frames(0, n_mels=12)])
        return net

    def quality_db(net: QuantNet) -> float:
        return sqnr_db(teacher(unseen), net(unseen))

    assert quality_db(calibrated(64)) > 25
    student, crippled = calibrated(3), calibrated(3)
    before_db = quality_db(student)
    assert before_db < 8
    distil(student, teacher)
    for name, parameter in crippled.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))  # as if no gradient passed the rounding of weights
    distil(crippled, teacher)
    assert quality_db(student) > before_db + 7
    assert quality_db(student) > quality_db(crippled) + 3
