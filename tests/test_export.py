"""The exporter publishes a model that passes every check, and nothing at all otherwise."""

import hashlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
safetensors = pytest.importorskip("safetensors.torch")
from quantnets import N_KEYWORDS, N_MELS, SETTINGS, float_net, quant_net  # noqa: E402

from kws import cli, config, model  # noqa: E402
from kws.corpus import Clip  # noqa: E402
from kws.errors import CheckFailed  # noqa: E402
from kws.features import FeatureSettings  # noqa: E402
from kws.gain import GainSettings  # noqa: E402
from kws.manifest import DetectorSettings, Manifest, ModelFile, Source, Training, read_manifest  # noqa: E402
from kws.train import checks, export  # noqa: E402
from kws.train.provenance import training_record  # noqa: E402
from kws.train.recipe import Recipe  # noqa: E402
from kws.train.reference import IntegerNet  # noqa: E402

pytestmark = pytest.mark.train
torch.set_num_threads(1)
KEYWORDS = ("one", "two")
TRAINING = Training((Source("toy", "CC0-1.0", 2, 0.1),), "abc", "def", 7)


def describe(facts: ModelFile) -> Manifest:
    return Manifest(
        schema=1,
        name="toy",
        keywords=KEYWORDS,
        model=facts,
        features=FeatureSettings(),
        detector=DetectorSettings(thresholds=dict.fromkeys(KEYWORDS, 0.5)),
        training=TRAINING,
        licence="Apache-2.0",
    )


def altered(net: IntegerNet, **changes: Any) -> IntegerNet:
    return replace(net, head=replace(net.head, **changes))


def test_export_writes_a_model_that_listens(tmp_path: Path) -> None:
    manifest = export.export(quant_net(), tmp_path / "models" / "toy", describe)
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == ["toy"]
    assert read_manifest(tmp_path / "models" / "toy") == manifest
    scores = model.load_model(tmp_path / "models" / "toy").stream().feed(np.zeros(16_000, np.int16))
    assert scores.shape[1] == N_KEYWORDS


def test_frames_with_a_gain_are_heard_bit_for_bit(tmp_path: Path) -> None:
    """The exporter's own checks stream audio in random chunks, twice, and compare."""
    features = FeatureSettings(n_mels=N_MELS // 2, gain=GainSettings())
    export.export(quant_net(), tmp_path, lambda facts: replace(describe(facts), features=features))
    assert model.load_model(tmp_path).manifest.features == features


@pytest.mark.parametrize(("hop_ms", "frames"), [(5, 16), (10, 8), (20, 4), (25, 2)])
def test_a_step_holds_80_ms_in_whole_strides(tmp_path: Path, hop_ms: int, frames: int) -> None:
    features = FeatureSettings(hop_ms=hop_ms)
    manifest = export.export(
        quant_net(), tmp_path, lambda facts: replace(describe(facts), features=features), hop_ms=hop_ms
    )
    assert manifest.model.frames_per_step == frames
    assert manifest.model.frames_per_score == 2


def test_export_manifest_holds_the_facts(tmp_path: Path) -> None:
    net = quant_net()
    facts = export.export(net, tmp_path / "toy", describe).model
    content = (tmp_path / "toy" / "model.onnx").read_bytes()
    assert (facts.sha256, facts.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert facts.parameters == sum(p.numel() for name, p in net.named_parameters() if "scale" not in name)
    assert facts.receptive_field_frames == float_net().receptive_field_frames
    assert [state.name for state in facts.states] == ["stem", "block0", "block1", "block2"]
    assert [state.frames for state in facts.states] == [3, 2, 4, 8]
    properties = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
    assert properties["frames_per_step"] == "8"
    assert float(properties["output.scale"]) == facts.output.scale


def test_export_twice_gives_the_same_bytes_and_keeps_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    first = export.export(quant_net(), folder, describe)
    (folder / "CARD.md").write_text("a card")
    (tmp_path / "float").write_bytes(b"weights")
    second = export.export(quant_net(), folder, describe, float_checkpoint=tmp_path / "float")
    assert first == second
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["CARD.md", "float.safetensors", "manifest.yaml", "model.onnx"]


@pytest.mark.parametrize("form", ["qop", "qdq"])
def test_export_passes_in_both_forms(tmp_path: Path, form: Any) -> None:
    export.export(quant_net(), tmp_path / "toy", describe, form=form)


def plant_wrong_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(net: IntegerNet, *options: Any, **named: Any) -> Any:
        weight = net.head.weight.copy()
        weight[0, 0, 0] += 1 if weight[0, 0, 0] < 64 else -1
        return original(altered(net, weight=weight), *options, **named)

    original = export.build
    monkeypatch.setattr(export, "build", build)


def plant_wrong_output(monkeypatch: pytest.MonkeyPatch) -> None:
    original = export.model_file

    def facts(*arguments: Any) -> ModelFile:
        made = original(*arguments)
        output = replace(made.output, zero_point=made.output.zero_point + 1)
        return replace(made, output=output)

    monkeypatch.setattr(export, "model_file", facts)


def plant_float_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(net: IntegerNet, *options: Any, **named: Any) -> Any:
        made = original(net, *options, **named)
        del made.graph.node[-1].attribute[:]
        made.graph.node[-1].CopyFrom(
            onnx.helper.make_node("MaxPool", [made.graph.node[-2].output[0]], ["logits"], kernel_shape=[1, 1])
        )
        made.graph.output[0].type.tensor_type.shape.dim[3].dim_value = SETTINGS.channels
        return made

    original = export.build
    monkeypatch.setattr(export, "build", build)


def plant_other_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    original = export.QuantNet.integers

    def integers(self: Any) -> IntegerNet:
        net = original(self)
        return altered(net, bias=net.head.bias + 2000)

    monkeypatch.setattr(export.QuantNet, "integers", integers)


def plant_large_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    original = export.QuantNet.integers

    def integers(self: Any) -> IntegerNet:
        net = original(self)
        return altered(net, weight=np.full_like(net.head.weight, 65))

    monkeypatch.setattr(export.QuantNet, "integers", integers)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (plant_wrong_weight, "differ from the integer reference"),
        (plant_wrong_output, "random chunks"),
        (plant_float_operator, "MaxPool"),
        (plant_other_twin, "head: the training twin"),
        (plant_large_weight, "weight of 65"),
    ],
)
def test_export_refuses_a_planted_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Any, message: str
) -> None:
    plant(monkeypatch)
    with pytest.raises(CheckFailed, match=message):
        export.export(quant_net(), tmp_path / "toy", describe)
    assert not list(tmp_path.iterdir())


def test_invalid_graph_is_refused(tmp_path: Path) -> None:
    made = export.build(quant_net().integers(), 8)
    made.graph.node[0].input[0] = "nowhere"
    with pytest.raises(CheckFailed, match="not valid ONNX"):
        checks.check_graph(made, tmp_path)


def test_training_record_adds_up_by_source() -> None:
    clip = partial(
        Clip,
        label="",
        kind="speech",
        speaker="",
        split="train",
        lang="en",
        start_s=None,
        end_s=None,
        recording="",
    )
    recipe = Recipe("toy", KEYWORDS, start="runs/early", seed=3)
    record = training_record(
        [
            clip(path=Path("a"), source="s", seconds=1800.0, licence="CC0-1.0"),
            clip(path=Path("b"), source="s", seconds=1800.0, licence="CC-BY-4.0"),
            clip(path=Path("c"), source="r", seconds=36.0, licence="CC0-1.0"),
        ],
        recipe,
    )
    assert record.sources == (Source("r", "CC0-1.0", 1, 0.01), Source("s", "CC-BY-4.0, CC0-1.0", 2, 1.0))
    written = yaml.safe_dump(config.dump(recipe), sort_keys=False)  # what config.yaml holds
    assert record.config_sha256 == hashlib.sha256(written.encode()).hexdigest()
    assert (record.seed, record.start) == (3, "early")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    recipe = {"name": "toy", "keywords": list(KEYWORDS), "network": config.dump(SETTINGS)}
    (folder / "config.yaml").write_text(yaml.safe_dump(recipe))
    (folder / "training.yaml").write_text(yaml.safe_dump(config.dump(TRAINING)))
    safetensors.save_file(quant_net().state_dict(), folder / "qat.safetensors")
    safetensors.save_file(float_net().state_dict(), folder / "float.safetensors")
    return folder


def test_command_exports_a_run(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(run_folder), "--models", str(tmp_path / "models")]) == 0
    assert "all checks passed" in capsys.readouterr().out
    folder = tmp_path / "models" / "toy"
    assert read_manifest(folder).training == TRAINING
    assert (folder / "float.safetensors").read_bytes() == (run_folder / "float.safetensors").read_bytes()


def test_command_names_what_is_wrong_with_the_run(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ["--models", str(tmp_path / "models")]
    assert cli.main(["export", str(run_folder / "float.safetensors"), *models]) == 5
    assert "does not fit" in capsys.readouterr().err
    (run_folder / "qat.safetensors").write_bytes(b"damaged")
    assert cli.main(["export", str(run_folder), *models]) == 5
    assert "cannot read" in capsys.readouterr().err
    assert cli.main(["export", str(run_folder), "--name", "a/b", *models]) == 2
    assert cli.main(["export", str(tmp_path / "missing"), *models]) == 2
    assert not (tmp_path / "models").exists()


def test_command_exits_with_its_own_code_when_a_check_fails(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_wrong_weight(monkeypatch)
    assert (
        cli.main(["export", str(run_folder), "--models", str(tmp_path / "models")]) == CheckFailed.exit_code
    )
    assert not list((tmp_path / "models").iterdir())
