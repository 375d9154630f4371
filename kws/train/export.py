"""From a fine-tuned network to a model folder: integers, graph, manifest, and the checks in between.

Everything is written into a scratch folder next to the destination, checked there with the program that will
listen, and then renamed into place, the manifest last. A failed check leaves the destination as it was.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from kws.features import FeatureSettings
from kws.manifest import (
    FLOAT_FILE,
    MANIFEST_FILE,
    MODEL_FILE,
    Manifest,
    ModelFile,
    Quantisation,
    State,
    write_manifest,
)
from kws.train import checks
from kws.train.graph import Form, build, step_frames
from kws.train.qat import QuantNet
from kws.train.reference import Codes, IntegerNet


def export(
    quant: QuantNet,
    folder: Path,
    describe: Callable[[ModelFile], Manifest],
    *,
    hop_ms: int = FeatureSettings.hop_ms,
    float_checkpoint: Path | None = None,
    form: Form = "qop",
    seed: int = 0,
) -> Manifest:
    """Write the model folder for a calibrated network, or raise and leave `folder` untouched.

    Args:
        quant: The fine-tuned twin, on the CPU.
        folder: Where the model goes; other files in it (card, example recording) stay.
        describe: Completes the manifest around the facts about the network.
        hop_ms: Of its frames; decides how many of them are a step.
        float_checkpoint: Copied beside the model under FLOAT_FILE.
        form: Which operators the graph uses, see `kws.train.graph`.
        seed: Of the checks' random clips.

    Raises:
        CheckFailed: the model is not what it must be.
        OSError: the folder cannot be written.
    """
    quant = quant.eval()
    net = quant.integers()
    rng = np.random.default_rng(seed)
    codes = checks.random_codes(net, rng)
    checks.check_integers(net)
    checks.check_twin(quant, net, codes)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        scratch = Path(name)
        manifest = _write(net, scratch, describe, codes, step_frames(hop_ms, net.stem.stride), form=form)
        if float_checkpoint is not None:
            shutil.copyfile(float_checkpoint, scratch / FLOAT_FILE)
        checks.check_runtime(scratch, net, rng)
        _publish(scratch, folder)
    return manifest


def model_file(net: IntegerNet, content: bytes, frames_per_step: int) -> ModelFile:
    """The manifest's facts about the network whose ONNX file is `content`."""
    return ModelFile(
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        parameters=net.parameters,
        frames_per_step=frames_per_step,
        frames_per_score=net.stem.stride,
        receptive_field_frames=net.receptive_field_frames,
        input=Quantisation(net.stem.in_scale, net.stem.in_zero),
        output=Quantisation(net.head.out_scale, net.head.out_zero),
        states=tuple(
            State(name, conv.context, conv.weight.shape[1], conv.in_zero)
            for name, conv in net.convolutions()
            if conv.context
        ),
    )


def _write(
    net: IntegerNet,
    scratch: Path,
    describe: Callable[[ModelFile], Manifest],
    codes: Codes,
    frames_per_step: int,
    *,
    form: Form,
) -> Manifest:
    model = build(net, frames_per_step, form=form)
    checks.check_graph(model, scratch)
    checks.check_codes(model, net, codes)
    content: bytes = model.SerializeToString(deterministic=True)
    manifest = describe(model_file(net, content, frames_per_step))
    (scratch / MODEL_FILE).write_bytes(content)
    write_manifest(manifest, scratch / MANIFEST_FILE)
    return manifest


def _publish(scratch: Path, folder: Path) -> None:
    """Move the files, the manifest last: until then its sha256 refuses a half-replaced folder."""
    folder.mkdir(exist_ok=True)
    for path in sorted(scratch.iterdir(), key=lambda path: path.name == MANIFEST_FILE):
        path.replace(folder / path.name)
