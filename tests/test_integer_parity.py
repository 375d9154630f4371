"""Every path gives the same codes: numpy reference, both graph forms, every step size, the training twin."""

import itertools
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from quantnets import SETTINGS, quant_net  # noqa: E402

from kws.train import checks  # noqa: E402
from kws.train.graph import CONTRIB, Form, build  # noqa: E402
from kws.train.recipe import NetworkSettings, Quantisation  # noqa: E402
from kws.train.reference import (  # noqa: E402
    Codes,
    IntegerAdd,
    IntegerConv,
    IntegerNet,
    exact_residual,
    quantise,
)

pytestmark = pytest.mark.train
torch.set_num_threads(1)
WIDE = NetworkSettings(channels=48, kernel=5, dilations=(1, 4))
EVERY_X = np.repeat(np.arange(256, dtype=np.uint8), 256)
EVERY_Y = np.tile(np.arange(256, dtype=np.uint8), 256)


def codes_for(net: IntegerNet, seed: int = 0) -> Codes:
    return checks.random_codes(net, np.random.default_rng(seed))


NETS = {"small": (SETTINGS, 64), "wide": (WIDE, 64), "4 bits": (SETTINGS, 7)}


@pytest.fixture(scope="module", params=NETS.values(), ids=NETS)
def net(request: pytest.FixtureRequest) -> IntegerNet:
    settings, weight_limit = request.param
    return quant_net(3, settings, weight_limit).integers()


@pytest.mark.parametrize(
    ("form", "frames_per_step"), list(itertools.product(["qop", "qdq"], [2, 4, 8, 16, 400]))
)
def test_streamed_graph_equals_the_reference(net: IntegerNet, form: Form, frames_per_step: int) -> None:
    codes = codes_for(net)
    model = build(net, frames_per_step, form=form)
    assert np.array_equal(checks.stream_codes(model, net, codes), net.run(codes))


def test_reference_logits_vary_and_use_many_codes(net: IntegerNet) -> None:
    """Else the equalities above would prove little."""
    logits = net.run(codes_for(net))
    assert all(len(np.unique(column)) > 40 for column in logits.T)


@pytest.mark.parametrize("form", ["qop", "qdq"])
def test_optimised_graph_is_integer_only(net: IntegerNet, form: Form, tmp_path: Path) -> None:
    checks.check_graph(build(net, 8, form=form), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("bits", "largest"), [(8, 64), (4, 7), (3, 3)])
def test_training_twin_agrees_but_for_ties(bits: Any, largest: int) -> None:
    twin = quant_net(5, weight_limit=Quantisation(weight_bits=bits).largest_weight)
    net = twin.integers()
    assert {int(np.abs(conv.weight).max()) for _, conv in net.convolutions()} == {largest}
    checks.check_twin(twin, net, codes_for(net))
    codes = codes_for(net, seed=1)
    real = torch.from_numpy(codes.T.astype(np.float32) * np.float32(net.stem.in_scale))[None]
    logits = twin(real)[0].detach().T.numpy() / net.head.out_scale
    difference = np.abs(np.rint(logits) + net.head.out_zero - net.run(codes))
    assert difference.max() <= 1  # whole network: a tie in one layer may tip a code of the next
    assert (difference > 0).mean() < 0.02


def test_reference_convolution_equals_a_loop_over_python_integers() -> None:
    rng = np.random.default_rng(0)
    conv = IntegerConv(
        weight=rng.integers(-64, 65, (3, 2, 3)).astype(np.int8),
        weight_scale=np.array([0.01, 0.02, 0.003], np.float32),
        bias=np.array([5, -700, 0], np.int32),
        dilation=2,
        stride=2,
        in_scale=0.05,
        in_zero=7,
        out_scale=0.1,
        out_zero=100,
    )
    x = rng.integers(0, 256, (10, 2)).astype(np.uint8)
    got = conv.run(x)
    for step, channel in itertools.product(range(5), range(3)):
        total = int(conv.bias[channel])
        for tap, source in itertools.product(range(3), range(2)):
            frame = 2 * step + 1 - 2 * (2 - tap)  # a stride of 2 ends each step on its second frame
            if frame >= 0:
                total += int(conv.weight[channel, source, tap]) * (int(x[frame, source]) - 7)
        real = total * 0.05 * float(conv.weight_scale[channel]) / 0.1
        assert abs(got[step, channel] - min(max(real + 100, 0), 255)) < 0.5 + 1e-4


def test_input_codes_saturate_and_round_half_to_even() -> None:
    assert quantise(np.array([-1, 0, 0.5, 1.5, 2.5, 254.6, 900]), scale=1.0).tolist() == [
        0,
        0,
        0,
        2,
        2,
        255,
        255,
    ]


def test_states_start_at_the_zero_point_not_at_zero() -> None:
    net = quant_net().integers()
    silence = np.zeros((400, 40), np.uint8)
    model = build(net, 8)
    assert np.array_equal(checks.stream_codes(model, net, silence), net.run(silence))


def random_scales(count: int) -> list[tuple[float, float, int, float]]:
    rng = np.random.default_rng(0)
    scales = rng.uniform(0.01, 0.06, (count, 3)).astype(np.float32).tolist()
    return [(x, y, int(rng.integers(20, 236)), out) for x, y, out in scales]


@pytest.mark.parametrize("scales", random_scales(25))
def test_exact_addition_gives_the_same_code_everywhere(scales: tuple[float, float, int, float]) -> None:
    add = exact_residual(*scales)
    assert add.y_scale == pytest.approx(scales[1], rel=1e-3)
    assert add.out_scale == pytest.approx(scales[3], rel=1e-3)
    want = add.run(EVERY_X, EVERY_Y)
    assert np.array_equal(run_in_onnxruntime(add), want)
    assert np.array_equal(add_as_neon_does(add), want)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compares the rule of x86 with that of NEON")
def test_addition_at_arbitrary_scales_depends_on_the_processor() -> None:
    """The negative control: without `exact_residual` the fixed-point rule of NEON gives other codes."""
    different = 0
    for x_scale, y_scale, y_zero, out_scale in random_scales(25):
        add = IntegerAdd(x_scale, y_scale, y_zero, out_scale)
        assert not add.is_exact()
        different += int((add_as_neon_does(add) != run_in_onnxruntime(add)).sum())
    assert different > 0


def test_weights_beyond_64_saturate_on_avx2_without_vnni() -> None:
    """The negative control of |w| <= 64: the same network, quantised to |w| <= 127, comes out wrong there."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if "avx2" not in flags or "vnni" in flags:
        pytest.skip("this processor multiplies uint8 by int8 exactly: nothing saturates")
    net = quant_net(3, WIDE, weight_limit=127).integers()
    codes = np.full((400, 40), 255, np.uint8)
    assert not np.array_equal(checks.stream_codes(build(net, 8), net, codes), net.run(codes))


def run_in_onnxruntime(add: IntegerAdd) -> Codes:
    """Every pair of codes through a graph of one QLinearAdd."""
    constants = {
        "x.scale": np.float32(add.x_scale),
        "x.zero": np.uint8(0),
        "y.scale": np.float32(add.y_scale),
        "y.zero": np.uint8(add.y_zero),
        "out.scale": np.float32(add.out_scale),
        "out.zero": np.uint8(0),
    }
    operands = ["x", "x.scale", "x.zero", "y", "y.scale", "y.zero", "out.scale", "out.zero"]
    node = helper.make_node("QLinearAdd", operands, ["out"], domain=CONTRIB)
    ports = {
        name: helper.make_tensor_value_info(name, TensorProto.UINT8, [65536]) for name in ("x", "y", "out")
    }
    graph = helper.make_graph(
        [node],
        "add",
        [ports["x"], ports["y"]],
        [ports["out"]],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid(CONTRIB, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    result: Codes = checks.open_session(model).run(None, {"x": EVERY_X, "y": EVERY_Y})[0]
    return result


def add_as_neon_does(add: IntegerAdd) -> Codes:
    """ONNX Runtime's rule on Arm: 22-bit multipliers, halves rounded away from zero."""
    out = np.float32(add.out_scale)
    ratios = np.float32(add.x_scale) / out, np.float32(add.y_scale) / out
    shift = 21 - (int(np.frexp(max(ratios))[1]) - 1)
    x_factor, y_factor = (int(np.rint(np.ldexp(ratio, shift))) for ratio in ratios)
    total = EVERY_X.astype(np.int64) * x_factor + (EVERY_Y.astype(np.int64) - add.y_zero) * y_factor
    total += total >> 31
    return np.clip((total + (1 << (shift - 1))) >> shift, 0, 255).astype(np.uint8)
