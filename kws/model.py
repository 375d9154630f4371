"""A wake-word model: one ONNX Runtime session, and any number of streams, samples in and scores out.

The graph keeps no state. Each causal convolution reads its past from an input ``s_<name>`` and hands back its
whole buffer, past and new frames, as ``c_<name>``; the next step's ``s_<name>`` is bound, by raw pointer, to
the tail of that buffer. Two sets of buffers take turns, since a node may not read what it writes. So nothing
is copied between steps and a step costs one call.
"""

import os
from pathlib import Path
from time import perf_counter_ns
from typing import Any

# Before the import: from version 1.29 on, onnxruntime otherwise reports usage over the network.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from kws.errors import ModelError
from kws.features import Frames, LogMel, Samples
from kws.manifest import MODEL_FILE, Manifest, find_model, read_manifest
from kws.scores import Scores, Smoother

LARGEST_CODE = np.float32(255)
AFTERMATH_SECONDS = 0.3
"""After the end of a word its score still rises: the network is trained to fire up to 0.28 s later, and a
score averages some logits more."""


def load_model(name_or_path: str | Path = "default") -> "Model":
    """Load an installed model by name, or a model folder by path.

    Raises:
        ModelError: no such model, a damaged one, or one made for another version.
        ConfigError: its manifest cannot be understood.
    """
    return Model(find_model(name_or_path))


class Model:
    """A verified model folder, ready to open any number of streams."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self._session = _open_session(folder / MODEL_FILE)
        _check_shapes(self._session, self.manifest, folder)

    @property
    def keywords(self) -> tuple[str, ...]:
        """What the score columns stand for: the phrases that the model hears, and UNKNOWN of a classifier."""
        return self.manifest.keywords

    def stream(self) -> "Stream":
        """Open a new stream; streams of one model are independent of each other."""
        return Stream(self._session, self.manifest)


class Stream:
    """One stream of audio: samples in, scores out, all context carried inside.

    The same samples give the same bits however they are cut into calls of `feed`.
    """

    def __init__(self, session: Any, manifest: Manifest) -> None:
        self.features = LogMel(manifest.features, block_frames=manifest.model.frames_per_step)
        self.network = Network(session, manifest)
        output = manifest.model.output
        self.smoother = Smoother(
            output.scale, output.zero_point, manifest.detector.smoothing_steps, len(manifest.keywords)
        )
        self._none = np.zeros((0, len(manifest.keywords)), np.float32)
        self.features_ns = self.model_ns = 0
        """What the last call of `feed` took, by the clock on the wall."""

    def feed(self, samples: Samples) -> Scores:
        """Add int16 or float32 (-1..1) mono samples, any number; return scores (steps, keywords), 0..1.

        Raises:
            AudioError: more than one channel, another type, or samples that are not finite.
        """
        scores, features_ns, model_ns = [], 0, 0
        before_ns = perf_counter_ns()
        for frames in self.features.blocks(samples):
            between_ns = perf_counter_ns()
            codes = self.network.step(frames)
            after_ns = perf_counter_ns()
            scores.append(self.smoother.feed(codes))
            features_ns += between_ns - before_ns
            model_ns += after_ns - between_ns
            before_ns = perf_counter_ns()
        self.features_ns, self.model_ns = features_ns + perf_counter_ns() - before_ns, model_ns
        if len(scores) == 1:  # the usual case: one block from the microphone is one step
            return scores[0]
        return np.concatenate(scores) if scores else self._none

    def flush(self) -> Scores:
        """Scores of the last samples and of the silence after them; then reset.

        A score peaks up to `AFTERMATH_SECONDS` after the end of a word, which may be the end of the audio.
        """
        silence = round(AFTERMATH_SECONDS * self.features.settings.sample_rate_hz)
        scores = self.feed(np.zeros(silence, np.float32))
        self.reset()
        return scores

    def reset(self) -> None:
        """Forget all context: the next sample is the first of a new stream."""
        self.features.reset()
        self.network.reset()
        self.smoother.reset()


class Network:
    """The network's state for one stream; `step` is one model call."""

    def __init__(self, session: Any, manifest: Manifest) -> None:
        model = manifest.model
        shapes = _shapes(session)
        self._zero_points = {f"c_{state.name}": state.zero_point for state in model.states}
        self._buffers = [{c: np.empty(shapes[c], np.uint8) for c in self._zero_points} for _ in range(2)]
        self._input = np.zeros(shapes["x"], np.uint8)
        self._logits = np.zeros(shapes["logits"], np.uint8)
        self._run = session.run_with_iobinding
        self._bindings = [
            self._bind(session, shapes, past, present)
            for past, present in (self._buffers, self._buffers[::-1])
        ]
        self._scale = np.float32(model.input.scale)
        self._codes_in: NDArray[np.uint8] = self._input[0, 0]
        self._codes_out: NDArray[np.uint8] = self._logits[0, 0]
        self._codes = np.zeros(self._codes_in.shape, np.float32)
        self._turn = 0
        self._settled = self._silence(-(-model.receptive_field_frames // model.frames_per_step))

    def reset(self) -> None:
        """Back to the state after endless silence, in which a stream starts."""
        for name, buffer in self._settled.items():
            self._buffers[0][name][:] = buffer
        self._turn = 0

    def _silence(self, steps: int) -> dict[str, NDArray[np.uint8]]:
        """Hear silence for at least `steps`; returns the buffers it leaves.

        Biases make silence something else than zeros inside the network. Without this, a word right at the
        start of a stream would meet a state that training has only seen long before a word.
        """
        for name, buffer in self._buffers[0].items():
            buffer.fill(self._zero_points[name])
        for _ in range(steps + steps % 2):  # an even number ends in the first set of buffers
            self.step(np.zeros_like(self._codes))
        return {name: buffer.copy() for name, buffer in self._buffers[0].items()}

    def step(self, frames: Frames) -> NDArray[np.uint8]:
        """Logit codes (steps, keywords) of the next frames (frames_per_step, frame_size).

        The result is overwritten by the next step.
        """
        codes = self._codes
        np.divide(frames, self._scale, out=codes)
        np.rint(codes, out=codes)
        np.minimum(codes, LARGEST_CODE, out=codes)  # never below 0, as features are not
        np.copyto(self._codes_in, codes, casting="unsafe")
        self._run(self._bindings[self._turn])
        self._turn ^= 1
        return self._codes_out

    def _bind(self, session: Any, shapes: dict[str, list[int]], past: Any, present: Any) -> Any:
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, np.uint8, shapes["x"], self._input.ctypes.data)
        binding.bind_output("logits", "cpu", 0, np.uint8, shapes["logits"], self._logits.ctypes.data)
        for name, buffer in past.items():
            state = "s_" + name.removeprefix("c_")
            tail = buffer.nbytes - int(np.prod(shapes[state]))
            binding.bind_input(state, "cpu", 0, np.uint8, shapes[state], buffer.ctypes.data + tail)
        for name, buffer in present.items():
            binding.bind_output(name, "cpu", 0, np.uint8, shapes[name], buffer.ctypes.data)
        return binding


def _open_session(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    # One thread: a pool that waits for work by spinning costs eighty times as much CPU as the network.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; they arrive as exceptions
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no narrower base class
        reason = " ".join(str(error).split())
        raise ModelError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path} ({reason}); upgrade onnxruntime"
        ) from error


def _shapes(session: Any) -> dict[str, list[int]]:
    """Shape of each input and output; an empty one where the type is not uint8."""
    ports = (*session.get_inputs(), *session.get_outputs())
    return {port.name: port.shape if port.type == "tensor(uint8)" else [] for port in ports}


def _check_shapes(session: Any, manifest: Manifest, folder: Path) -> None:
    """Compare the graph's inputs and outputs with the manifest: raw pointers forgive nothing."""
    model, actual = manifest.model, _shapes(session)
    expected = {
        "x": [1, 1, model.frames_per_step, manifest.features.frame_size],
        "logits": [1, 1, model.frames_per_step // model.frames_per_score, len(manifest.keywords)],
    }
    for state in model.states:
        expected[f"s_{state.name}"] = [1, 1, state.frames, state.channels]
        # How many new frames a buffer holds depends on the strides before it; one at least.
        frames = max(state.frames + 1, *actual.get(f"c_{state.name}", [])[2:3], 0)
        expected[f"c_{state.name}"] = [1, 1, frames, state.channels]
    wrong = sorted(name for name in expected | actual if expected.get(name) != actual.get(name))
    if wrong:
        raise ModelError(
            f"{folder / MODEL_FILE} and its manifest disagree on {', '.join(wrong)}; export the model again"
        )
