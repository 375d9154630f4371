"""`kws evaluate --float`: the float network of a model folder hears what its INT8 twin hears."""

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
safetensors = pytest.importorskip("safetensors.torch")
from quantnets import float_net, quant_net  # noqa: E402

from kws.commands.evaluate import float_listener  # noqa: E402
from kws.errors import ModelError  # noqa: E402
from kws.evaluate.stream import int8_listener  # noqa: E402
from kws.manifest import FLOAT_FILE, read_manifest  # noqa: E402
from kws.train.export import export  # noqa: E402

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy_folder):
    """An exported random network with its float checkpoint."""
    scratch = tmp_path_factory.mktemp("float")
    folder, checkpoint = scratch / "model", scratch / FLOAT_FILE
    safetensors.save_file(float_net().state_dict(), checkpoint)
    toy = read_manifest(toy_folder)
    export(quant_net(), folder, lambda m: dataclasses.replace(toy, model=m), float_checkpoint=checkpoint)
    return folder


def test_float_listener_hears_what_its_int8_twin_hears(folder, notes):
    """The dilations are read back from the manifest's states, so any slip shows at once."""
    exact, coded = float_listener(folder)(notes), int8_listener(str(folder))(notes)
    assert exact.shape == coded.shape
    assert np.abs(exact - coded).max() < 0.15
    steps = read_manifest(folder).detector.smoothing_steps
    exact, coded = exact[steps:], coded[steps:]  # what they take for the time before the start differs
    assert np.corrcoef(exact[:, 0], coded[:, 0])[0, 1] > 0.98


def test_float_listener_starts_every_stream_afresh(folder, notes):
    listen = float_listener(folder)
    assert np.array_equal(listen(notes), listen(notes))


def test_float_listener_names_the_missing_checkpoint(toy_folder):
    with pytest.raises(ModelError, match=r"has no float\.safetensors"):
        float_listener(toy_folder)
