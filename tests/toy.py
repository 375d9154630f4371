"""The toy model of the tests: it hears a low note and a high note, and is small enough to work out by hand.

``python tests/toy.py`` (with onnx installed) writes it to tests/data/notes. The network: a stem that averages
the lower and the upper half of the mel bands over five frames, one that averages five of its steps and has
signed outputs and a zero point other than 0, and a head that takes the difference.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from kws.features import FeatureSettings
from kws.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    DetectorSettings,
    Manifest,
    ModelFile,
    OperatingPoint,
    Quantisation,
    Source,
    State,
    Training,
    write_manifest,
)

FOLDER = Path(__file__).parent / "data" / "notes"
KEYWORDS = ("low note", "high note")
FRAMES_PER_STEP = 8
STATES = (State("stem", 3, 40, 0), State("mean", 8, 2, 20))
INPUT = Quantisation(10 / 255, 0)
STEM = Quantisation(10 / 235, 20)
MEAN = Quantisation(10 / 235, 20)
OUTPUT = Quantisation(0.1, 150)


def model_bytes() -> bytes:
    """The network as ONNX."""
    import onnx  # noqa: PLC0415
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    nodes, constants, inputs, outputs = [], [], [], []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def port(name: str, frames: int, channels: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 1, frames, channels])

    def quantisation(name: str, values: Quantisation) -> list[str]:
        return [
            constant(f"{name}.scale", np.float32(values.scale)),
            constant(f"{name}.zero", np.uint8(values.zero_point)),
        ]

    def conv(name: str, x: str, weight: Any, bias: Any, *, gain: float, ends: Any, **shape: Any) -> str:
        source, target = ends
        codes = np.asarray(weight, np.int8)  # (out, in, kernel)
        scale = np.full(len(codes), gain, np.float32)
        bias_codes = np.rint(np.asarray(bias) / (source.scale * gain)).astype(np.int32)
        operands = [
            *quantisation(f"{name}.in", source),
            constant(f"{name}.weight", codes[:, :, None, :]),
            constant(f"{name}.weight_scale", scale),
            constant(f"{name}.weight_zero", np.zeros(len(codes), np.int8)),
            *quantisation(f"{name}.out", target),
            constant(f"{name}.bias", bias_codes),
        ]
        options = {"kernel_shape": [1, codes.shape[2]], "pads": [0, 0, 0, 0], "strides": [1, 1]} | shape
        nodes.append(
            helper.make_node(
                "QLinearConv",
                [x, *operands],
                [f"y_{name}"],
                domain="com.microsoft",
                channels_last=1,
                **options,
            )
        )
        return f"y_{name}"

    def remember(state: State, x: str, frames: int) -> str:
        inputs.append(port(f"s_{state.name}", state.frames, state.channels))
        outputs.append(port(f"c_{state.name}", state.frames + frames, state.channels))
        nodes.append(helper.make_node("Concat", [f"s_{state.name}", x], [f"c_{state.name}"], axis=2))
        return f"c_{state.name}"

    inputs.append(port("x", FRAMES_PER_STEP, 40))
    halves = np.zeros((2, 40, 5))
    halves[0, :20] = halves[1, 20:] = 1
    x = remember(STATES[0], "x", FRAMES_PER_STEP)
    x = conv("stem", x, halves, [0, 0], gain=1 / 100, ends=(INPUT, STEM), strides=[1, 2])
    x = remember(STATES[1], x, FRAMES_PER_STEP // 2)
    average = np.repeat(np.eye(2)[:, :, None], 5, axis=2)
    x = conv("mean", x, average, [0, 0], gain=1 / 5, ends=(STEM, MEAN), dilations=[1, 2])
    difference = np.array([[[10], [-10]], [[-10], [10]]])
    conv("head", x, difference, [-10, -10], gain=0.5, ends=(MEAN, OUTPUT))
    nodes[-1].output[0] = "logits"
    outputs.insert(0, port("logits", FRAMES_PER_STEP // 2, 2))
    graph = helper.make_graph(nodes, "notes", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="kws tests")
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def manifest_for(content: bytes) -> Manifest:
    """The manifest that describes it."""
    return Manifest(
        schema=1,
        name="notes",
        keywords=KEYWORDS,
        model=ModelFile(
            sha256=hashlib.sha256(content).hexdigest(),
            bytes=len(content),
            parameters=432,
            frames_per_step=FRAMES_PER_STEP,
            frames_per_score=2,
            receptive_field_frames=21,
            input=INPUT,
            output=OUTPUT,
            states=STATES,
        ),
        features=FeatureSettings(),
        detector=DetectorSettings(smoothing_steps=5, thresholds=dict.fromkeys(KEYWORDS, 0.5)),
        training=Training((Source("worked out by hand", "CC0-1.0", 0, 0.0),), "none", "none", 0),
        licence="Apache-2.0",
        operating_curve={"low note": (OperatingPoint(0.5, 0.4, 0.03),)},
    )


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    FOLDER.joinpath(MODEL_FILE).write_bytes(content := model_bytes())
    write_manifest(manifest_for(content), FOLDER / MANIFEST_FILE)
