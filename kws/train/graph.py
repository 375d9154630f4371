"""Integer network -> streaming ONNX graph with explicit state.

One call ("step") takes `x` uint8 [1, 1, frames_per_step, frame_size] and, for each convolution that looks
back, its carried frames `s_<name>` [1, 1, context, channels]. It returns `logits` [1, 1, steps, keywords] and
the whole buffers `c_<name>` = state ++ new frames; the next call's state is the tail of that buffer, which
the host binds by pointer, so that the graph needs no Slice and nothing is copied. Everything is NHWC.

Two forms compute the same. "qop" names ONNX Runtime's integer operators directly and is the one that ships:
it loads fastest and does not depend on an optimiser. "qdq" uses standard operators with quantise/dequantise
pairs, for other runtimes; ONNX Runtime fuses it into the former.
"""

from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from kws.gate import STEP_MS
from kws.train.reference import IntegerAdd, IntegerConv, IntegerNet

Form = Literal["qop", "qdq"]
Tensor = tuple[str, str]
"""Names of a tensor and of its quantisation."""

CONTRIB = "com.microsoft"
OPSET = 19
IR_VERSION = 9


def step_frames(hop_ms: int, stride: int) -> int:
    """Frames of a step: what `STEP_MS` holds of them, but whole strides and at least one.

    Longer steps would cost less CPU per second of audio, shorter ones answer sooner.
    """
    return max(1, STEP_MS // (hop_ms * stride)) * stride


def build(
    net: IntegerNet, frames_per_step: int, *, form: Form = "qop", metadata: dict[str, str] | None = None
) -> onnx.ModelProto:
    """The model for `frames_per_step` frames per call, a multiple of the stem's stride.

    `metadata` is stored in the file beside the step size and every quantisation that a host needs.
    """
    graph = _Graph(form)
    frames = frames_per_step
    graph.port(graph.inputs, "x", frames, net.stem.weight.shape[1])
    x = graph.conv("stem", net.stem, ("x", "x.q"), frames)
    frames //= net.stem.stride
    for index, (conv, add) in enumerate(net.blocks):
        y = graph.conv(f"block{index}", conv, x, frames)
        x = graph.add(f"add{index}", add, x, y)
    graph.conv("head", net.head, x, frames, output="logits")
    graph.port(graph.outputs, "logits", frames, net.head.weight.shape[0], first=True)
    properties = _properties(net, frames_per_step) | (metadata or {})
    return graph.model(properties)


def _properties(net: IntegerNet, frames_per_step: int) -> dict[str, str]:
    properties = {
        "frames_per_step": str(frames_per_step),
        "frames_per_score": str(net.stem.stride),
        "receptive_field_frames": str(net.receptive_field_frames),
        "input.scale": repr(float(net.stem.in_scale)),
        "input.zero_point": str(net.stem.in_zero),
        "output.scale": repr(float(net.head.out_scale)),
        "output.zero_point": str(net.head.out_zero),
    }
    for name, conv in net.convolutions():
        if conv.context:
            properties[f"state.{name}.zero_point"] = str(conv.in_zero)
    return properties


class _Graph:
    """The parts of an ONNX graph while it grows; tensors are uint8 [1, 1, T, C] throughout."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def port(self, side: list[Any], name: str, frames: int, channels: int, *, first: bool = False) -> None:
        value = helper.make_tensor_value_info(name, TensorProto.UINT8, [1, 1, frames, channels])
        side.insert(0 if first else len(side), value)

    def constant(self, name: str, value: Any) -> str:
        self.constants[name] = numpy_helper.from_array(np.asarray(value, order="C"), name)
        return name

    def scale(self, name: str, scale: float, zero: int) -> list[str]:
        """Scale and zero point of one tensor, shared by its producer and its readers."""
        return [
            self.constant(f"{name}.scale", np.float32(scale)),
            self.constant(f"{name}.zero_point", np.uint8(zero)),
        ]

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def conv(self, name: str, conv: IntegerConv, x: Tensor, frames: int, *, output: str = "") -> Tensor:
        """Append state ++ x -> convolution, for `frames` new frames."""
        out_channels, channels, kernel = conv.weight.shape
        tensor, source = x
        if conv.context:
            self.port(self.inputs, f"s_{name}", conv.context, channels)
            self.port(self.outputs, f"c_{name}", conv.context + frames, channels)
            tensor = self.node("Concat", [f"s_{name}", tensor], f"c_{name}", axis=2)
        x_scale = self.scale(source, conv.in_scale, conv.in_zero)
        y_scale = self.scale(f"{name}.q", conv.out_scale, conv.out_zero)
        weight = self.constant(f"{name}.weight", conv.weight[:, :, None, :])
        weight_scale = [
            self.constant(f"{name}.weight_scale", conv.weight_scale),
            self.constant(f"{name}.weight_zero_point", np.zeros(out_channels, np.int8)),
        ]
        bias = self.constant(f"{name}.bias", conv.bias)
        result = output or f"y_{name}", f"{name}.q"
        shape = {
            "kernel_shape": [1, kernel],
            "strides": [1, conv.stride],
            "dilations": [1, conv.dilation],
            "pads": [0, 0, 0, 0],
        }
        if self.form == "qop":
            inputs = [tensor, *x_scale, weight, *weight_scale, *y_scale, bias]
            self.node("QLinearConv", inputs, result[0], domain=CONTRIB, channels_last=1, **shape)
            return result
        bias_scale = [
            self.constant(f"{name}.bias_scale", conv.weight_scale * np.float32(conv.in_scale)),
            self.constant(f"{name}.bias_zero_point", np.zeros(out_channels, np.int32)),
        ]
        # Codes are transposed, not reals: the other order leaves a useless Q/DQ pair after the stem.
        tensor = self.node("Transpose", [tensor], f"{name}.x_nchw", perm=[0, 3, 1, 2])
        real_x = self.node("DequantizeLinear", [tensor, *x_scale], f"{name}.x")
        real_w = self.node("DequantizeLinear", [weight, *weight_scale], f"{name}.w", axis=0)
        real_b = self.node("DequantizeLinear", [bias, *bias_scale], f"{name}.b", axis=0)
        real_y = self.node("Conv", [real_x, real_w, real_b], f"{name}.y", **shape)
        tensor = self.node("QuantizeLinear", [real_y, *y_scale], f"{name}.y_nchw")
        self.node("Transpose", [tensor], result[0], perm=[0, 2, 3, 1])
        return result

    def add(self, name: str, add: IntegerAdd, x: Tensor, y: Tensor) -> Tensor:
        """Append ReLU(x + y)."""
        x_scale = self.scale(x[1], add.x_scale, 0)
        y_scale = self.scale(y[1], add.y_scale, add.y_zero)
        out_scale = self.scale(f"{name}.q", add.out_scale, 0)
        result = f"y_{name}", f"{name}.q"
        if self.form == "qop":
            inputs = [x[0], *x_scale, y[0], *y_scale, *out_scale]
            self.node("QLinearAdd", inputs, result[0], domain=CONTRIB)
            return result
        real_x = self.node("DequantizeLinear", [x[0], *x_scale], f"{name}.x")
        real_y = self.node("DequantizeLinear", [y[0], *y_scale], f"{name}.y")
        real = self.node("Add", [real_x, real_y], f"{name}.sum")
        self.node("QuantizeLinear", [real, *out_scale], result[0])  # the clamp at 0 is the ReLU
        return result

    def model(self, properties: dict[str, str]) -> onnx.ModelProto:
        """Close the graph."""
        graph = helper.make_graph(self.nodes, "kws", self.inputs, self.outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", OPSET)]
        if self.form == "qop":
            opsets.append(helper.make_opsetid(CONTRIB, 1))
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="kws")
        helper.set_model_props(model, dict(sorted(properties.items())))
        return model
