"""What an exported model must satisfy before it is published; a failed check names the place."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from kws.errors import CheckFailed
from kws.features import LogMel
from kws.manifest import MODEL_FILE
from kws.model import load_model
from kws.train.qat import QuantConv, QuantNet
from kws.train.reference import MAX_WEIGHT, Codes, IntegerNet, quantise

INTEGER_OPERATORS = {"Concat", "QLinearConv", "QLinearAdd"}
"""All that may be left once ONNX Runtime has optimised the graph."""
TIES = 1e-3
"""Share of a layer's codes in which the training twin may differ, by one step: sums near a half."""
TEST_FRAMES = 400
"""Length of the random clips; the receptive field is shorter."""


def check_integers(net: IntegerNet) -> None:
    """The contract of `kws.train.reference`: small weights, no overflow, exact additions."""
    for name, conv in net.convolutions():
        largest = int(np.abs(conv.weight.astype(np.int64)).max())
        if largest > MAX_WEIGHT:
            raise _failed(f"{name} has a weight of {largest}, beyond {MAX_WEIGHT}: AVX2 would saturate")
        if conv.largest_accumulator >= 2**31:
            raise _failed(f"{name} can overflow its 32-bit accumulator")
    for index, (_, add) in enumerate(net.blocks):
        if not add.is_exact():
            raise _failed(f"the addition of block{index} rounds differently on other processors")


def check_twin(quant: QuantNet, net: IntegerNet, codes: Codes) -> None:
    """The training twin computes what the integers do, layer by layer; input: `codes` (T, frame_size)."""
    x = codes
    modules = iter([quant.stem, *quant.blocks, quant.head])
    additions = iter(zip(quant.adds, net.blocks, strict=True))
    for name, conv in net.convolutions():
        module = cast(QuantConv, next(modules))
        y = conv.run(x)
        real = module(_real(x, conv.in_scale, conv.in_zero), conv.in_scale)
        _compare(name, y, real, conv.out_scale, conv.out_zero)
        if name.startswith("block"):
            add_module, (_, add) = next(additions)
            total = add.run(x, y)
            real = add_module(_real(x, add.x_scale, 0) + _real(y, add.y_scale, add.y_zero))
            _compare(f"the addition of {name}", total, real, add.out_scale, 0)
            y = total
        x = y


def check_graph(model: onnx.ModelProto, folder: Path) -> None:
    """The file is valid ONNX, and ONNX Runtime leaves no float operator in it; `folder` is for scratch."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _failed(f"the graph is not valid ONNX ({' '.join(str(error).split())})") from error
    optimised = folder / "optimised.onnx"
    open_session(model, optimised)
    operators = {node.op_type for node in onnx.load(optimised).graph.node}
    optimised.unlink()
    if operators - INTEGER_OPERATORS:
        names = ", ".join(sorted(operators - INTEGER_OPERATORS))
        raise _failed(f"ONNX Runtime runs {names} beside the integer operators")


def check_codes(model: onnx.ModelProto, net: IntegerNet, codes: Codes) -> None:
    """The graph, streamed over `codes` (T, frame_size), equals the numpy reference bit for bit."""
    got, want = stream_codes(model, net, codes), net.run(codes)
    if not np.array_equal(got, want):
        share = float((got != want).mean())
        raise _failed(f"{share:.2%} of the streamed logits differ from the integer reference")


def check_runtime(folder: Path, net: IntegerNet, rng: np.random.Generator) -> None:
    """The listening program, fed audio in random chunks, gives the reference's scores bit for bit."""
    model = load_model(folder)
    manifest = model.manifest
    samples = _test_audio(rng, manifest.features.sample_rate_hz)
    frames = LogMel(manifest.features, manifest.model.frames_per_step).feed(samples)
    before = -(-net.receptive_field_frames // net.stem.stride) * net.stem.stride  # a stream starts settled
    codes = net.run(np.pad(quantise(frames), ((before, 0), (0, 0))))[before // net.stem.stride :]
    steps = manifest.detector.smoothing_steps
    codes = np.pad(codes, ((steps - 1, 0), (0, 0)))
    sums = np.lib.stride_tricks.sliding_window_view(codes, steps, axis=0).sum(-1, dtype=np.int64)
    logits = net.head.out_scale * (sums / steps - net.head.out_zero)
    want = (1 / (1 + np.exp(-logits))).astype(np.float32)
    stream = model.stream()
    for _ in range(2):  # twice: `reset` is checked too
        cuts = np.sort(rng.integers(0, len(samples), 40))
        got = np.concatenate([stream.feed(chunk) for chunk in np.split(samples, cuts)])
        if not np.array_equal(got, want):
            raise _failed(f"{MODEL_FILE} streamed in random chunks differs from the whole clip")
        stream.reset()


def random_codes(net: IntegerNet, rng: np.random.Generator) -> Codes:
    """Input codes (T, frame_size) over the whole range, with silence and saturation."""
    level = rng.uniform(0, 400, (TEST_FRAMES, 1))
    codes = rng.uniform(0, 1, (TEST_FRAMES, net.stem.weight.shape[1])) * level
    return np.clip(codes, 0, 255).astype(np.uint8)


def open_session(model: onnx.ModelProto, optimised: Path | None = None) -> Any:
    """A session on `model` in memory; the graph that will really run is written to `optimised`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # else it warns that the optimised graph is for this machine only
    if optimised is not None:
        options.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def stream_codes(model: onnx.ModelProto, net: IntegerNet, codes: Codes) -> Codes:
    """Logit codes (T // stride, keywords) of the graph, called step by step with the state carried along."""
    session = open_session(model)
    outputs = [output.name for output in session.get_outputs()]
    step = next(port.shape[2] for port in session.get_inputs() if port.name == "x")
    states = {
        f"s_{name}": np.full((1, 1, conv.context, conv.weight.shape[1]), conv.in_zero, np.uint8)
        for name, conv in net.convolutions()
        if conv.context
    }
    logits = []
    for start in range(0, len(codes), step):
        x = codes[None, None, start : start + step]
        results = dict(zip(outputs, session.run(None, {"x": x, **states}), strict=True))
        states = {
            name: results[f"c_{name.removeprefix('s_')}"][:, :, -state.shape[2] :]
            for name, state in states.items()
        }
        logits.append(results["logits"][0, 0])
    return np.concatenate(logits)


def _real(codes: Codes, scale: float, zero: int) -> torch.Tensor:
    return torch.from_numpy((codes.T.astype(np.float32) - zero) * np.float32(scale))[None]


def _compare(name: str, want: Codes, real: torch.Tensor, scale: float, zero: int) -> None:
    got = np.rint(real.detach()[0].T.numpy() / np.float32(scale)).astype(np.int64) + zero
    difference = np.abs(got - want)
    share = float((difference > 0).mean())
    if difference.max() > 1 or share > TIES:
        raise _failed(
            f"{name}: the training twin differs from the integers in {share:.2%} of the codes, "
            f"by up to {difference.max()} steps"
        )


def _test_audio(rng: np.random.Generator, sample_rate_hz: int) -> NDArray[np.int16]:
    """Five seconds of noise whose level and colour change ten times a second, with silent gaps."""
    pieces = []
    for _ in range(50):
        noise = rng.standard_normal(sample_rate_hz // 10)
        if rng.random() < 0.5:
            noise = np.cumsum(noise) / 20
        pieces.append(noise * 10 ** rng.uniform(-5, 0) * (rng.random() > 0.1))
    return (np.clip(np.concatenate(pieces), -1, 1) * 32767).astype(np.int16)


def _failed(what: str) -> CheckFailed:
    return CheckFailed(f"{what}; the model was not written: report this with the run folder")
