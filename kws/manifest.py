"""The manifest of a model folder: what is in `model.onnx`, how to feed it, and what its scores mean.

A model is a folder ``<name>/{model.onnx, manifest.yaml, CARD.md}``. Nothing is decided from a file name: the
manifest says it all, and `read_manifest` refuses a folder whose network is not the one it describes.
"""

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kws import config
from kws.errors import ConfigError, ModelError
from kws.features import FeatureSettings
from kws.files import shipped, write_text

SCHEMA = 1
"""Version of the manifest's layout that this program reads and writes."""

UNKNOWN, SILENCE = "_unknown_", "_silence_"
"""Answers of a classifier beside its words: other speech, which is an output of the network like a keyword,
and nothing of it all, which is no output but a logit of 0."""

MANIFEST_FILE = "manifest.yaml"
MODEL_FILE = "model.onnx"
EXAMPLE_FILE = "example.flac"
"""A recording that holds the model's keywords; not every model has one."""
FLOAT_FILE = "float.safetensors"
"""The float network before fine-tuning: what another fine-tuning, and a comparison, start from."""


@dataclass(frozen=True)
class Quantisation:
    """Affine map of a uint8 tensor: ``real = scale * (code - zero_point)``."""

    scale: float
    zero_point: int


@dataclass(frozen=True)
class State:
    """Context that one causal convolution carries from step to step, uint8 (1, 1, frames, channels)."""

    name: str
    """Suffix of the graph's input ``s_<name>`` and output ``c_<name>``."""
    frames: int
    channels: int
    zero_point: int
    """Code of real zero: what a fresh state is filled with."""


@dataclass(frozen=True)
class ModelFile:
    """The network in `model.onnx`."""

    sha256: str
    bytes: int
    parameters: int
    """Learned numbers: weights and biases."""
    frames_per_step: int
    """Feature frames that one model call consumes."""
    frames_per_score: int
    """Feature frames between two scores."""
    receptive_field_frames: int
    """Frames of past audio that one logit depends on."""
    input: Quantisation
    """Of the features, in bel."""
    output: Quantisation
    """Of the logits."""
    states: tuple[State, ...]

    def __post_init__(self) -> None:
        """Refuse a step that does not hold whole scores."""
        if (
            min(self.frames_per_score, self.frames_per_step) < 1
            or self.frames_per_step % self.frames_per_score
        ):
            raise ConfigError("frames_per_step must be a multiple of frames_per_score; correct it")


@dataclass(frozen=True)
class DetectorSettings:
    """How logits become scores, and scores detections."""

    thresholds: dict[str, float]
    """Per keyword: the score, 0..1, that counts as heard."""
    smoothing_steps: int = 8
    """Logits averaged into one score."""
    refractory_seconds: float = 1.0
    """Audio time after a detection in which the model makes no other one."""
    hits_required: int = 1
    """Scores in a row that must reach the threshold."""

    def __post_init__(self) -> None:
        """Refuse settings that could never detect, or detect always."""
        if self.smoothing_steps < 1 or self.hits_required < 1:
            raise ConfigError("smoothing_steps and hits_required must be at least 1; raise them")
        if not 0 <= self.refractory_seconds < float("inf"):
            raise ConfigError("refractory_seconds must be 0 or more; correct it")
        for keyword, threshold in self.thresholds.items():
            if not 0 < threshold <= 1:
                raise ConfigError(f"thresholds.{keyword} must lie in 0..1 and above 0; correct it")


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold costs and buys, measured by `kws evaluate`."""

    threshold: float
    false_accepts_per_hour: float
    false_reject_rate: float
    """Missed share of the spoken keywords, 0..1."""
    low_per_hour: float | None = None
    """`false_accepts_per_hour` has a 95 % interval from here ..."""
    high_per_hour: float | None = None
    """... to here."""
    is_extrapolated: bool = False
    """The hours measured hold less than one such false accept (`kws.evaluate.curve` says what was done)."""


@dataclass(frozen=True)
class Source:
    """One corpus that the network was trained on."""

    name: str
    licence: str
    clips: int
    hours: float


@dataclass(frozen=True)
class Training:
    """Where the weights come from: enough to train them again."""

    sources: tuple[Source, ...]
    commit: str
    config_sha256: str
    seed: int
    minutes: float | None = None
    """Wall time from the first window to the last step; None: not recorded."""
    machine: str = ""
    """What it ran on, in words."""
    start: str = ""
    """The run or model whose weights were the first ones; they took time of their own. Empty: random ones."""


@dataclass(frozen=True)
class Manifest:
    """Everything a program must know about a model besides its weights."""

    schema: int
    name: str
    keywords: tuple[str, ...]
    """Phrases as people write them, in the order of the network's outputs. UNKNOWN at the end makes the model
    a classifier; it is never detected and has no threshold."""
    model: ModelFile
    features: FeatureSettings
    detector: DetectorSettings
    training: Training
    licence: str
    """SPDX identifier of the weights."""
    operating_curve: dict[str, tuple[OperatingPoint, ...]] = field(default_factory=dict)
    """Per keyword; empty until the model has been evaluated."""
    evaluation: dict[str, Any] | None = None
    """Summary written by `kws evaluate --update`."""

    def __post_init__(self) -> None:
        """Refuse a manifest whose parts contradict each other."""
        if not self.keywords or len(set(self.keywords)) < len(self.keywords):
            raise ConfigError("keywords must be one or more different phrases; correct them")
        if UNKNOWN in self.keywords[:-1]:
            raise ConfigError(f"keywords must name {UNKNOWN} last; correct them")
        if not self.words:
            raise ConfigError("keywords must hold a word beside classes; add one")
        if set(self.detector.thresholds) != set(self.words):
            raise ConfigError("detector.thresholds must name exactly the keywords; correct it")

    @property
    def words(self) -> tuple[str, ...]:
        """The keywords that can be detected: all but UNKNOWN."""
        return words_of(self.keywords)

    @property
    def is_classifier(self) -> bool:
        """Whether `kws classify` can decide with this model."""
        return UNKNOWN in self.keywords

    @property
    def memory_seconds(self) -> float:
        """Audio that one score depends on: network, averaging of its logits, gain, one window."""
        logits = (self.detector.smoothing_steps - 1) * self.model.frames_per_score
        frames = self.model.receptive_field_frames + logits + self.features.past_frames
        return (frames - 1) * self.features.hop_ms / 1000 + self.features.window_ms / 1000

    @property
    def score_hop_samples(self) -> int:
        """Samples between two scores."""
        return self.features.hop_samples * self.model.frames_per_score

    @property
    def first_score_samples(self) -> int:
        """Samples that the first score needs: the end of its last frame."""
        return self.features.window_samples + self.score_hop_samples - self.features.hop_samples

    def score_sample(self, row: int) -> int:
        """Samples of the stream consumed when score `row` (0 is the first) is known."""
        return self.first_score_samples + row * self.score_hop_samples

    def score_rows(self, seconds: float) -> int:
        """Scores in a stretch of audio, rounded."""
        return round(seconds * self.features.sample_rate_hz / self.score_hop_samples)

    def score_time_s(self, row: int) -> float:
        """Like `score_sample`, in seconds since the start of the stream."""
        return self.score_sample(row) / self.features.sample_rate_hz


def words_of(keywords: tuple[str, ...]) -> tuple[str, ...]:
    """The keywords without UNKNOWN."""
    return tuple(keyword for keyword in keywords if keyword != UNKNOWN)


def read_manifest(folder: Path) -> Manifest:
    """Read a model folder's manifest and verify its network: size and sha256.

    Raises:
        ModelError: no such folder or file, a damaged network, another schema, or another sample rate.
        ConfigError: the manifest is not YAML, or a key of it is unknown or wrong.
    """
    path = folder / MANIFEST_FILE
    if not path.is_file():
        raise ModelError(f"{folder} is not a model folder (no {MANIFEST_FILE}); run: kws models")
    data = config.read_yaml(path)
    # Before the other keys: in another schema, or at another rate, they may well look wrong to us.
    schema = _lookup(data, "schema")
    if schema != SCHEMA:
        raise ModelError(
            f"{path} has schema {schema!r}, but this kws reads schema {SCHEMA}; "
            "this model needs another kws version"
        )
    rate_hz = _lookup(_lookup(data, "features"), "sample_rate_hz")
    if rate_hz not in (None, FeatureSettings.sample_rate_hz):
        raise ModelError(
            f"{path} asks for {rate_hz} Hz audio, but kws listens at {FeatureSettings.sample_rate_hz} Hz; "
            "train the model at that rate"
        )
    manifest = config.parse(data, Manifest, where=str(path))
    _verify(folder / MODEL_FILE, manifest.model)
    return manifest


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write `manifest` as YAML; the file appears complete or not at all."""
    text = yaml.safe_dump(
        config.dump(manifest), sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
    )
    try:
        write_text(path, text)
    except OSError as error:
        raise ModelError(f"cannot write {path}: {error.strerror}; choose another place") from error


def find_model(name_or_path: str | Path) -> Path:
    """Folder of an installed model, by name, or of any other, by path; ModelError when there is neither."""
    installed = {folder.name: folder for folder in installed_models()}
    folder = installed.get(str(name_or_path), Path(name_or_path))
    if folder.is_dir():
        return folder
    import difflib  # noqa: PLC0415 - as in kws.config

    near = difflib.get_close_matches(str(name_or_path), installed, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "installed: " + (", ".join(installed) or "none")
    raise ModelError(f"there is no model {str(name_or_path)!r}; {hint}")


def installed_models() -> list[Path]:
    """Folders of the models that came with this program, by name."""
    return sorted(path.parent for path in shipped("models").glob(f"*/{MANIFEST_FILE}"))


def _lookup(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None


def _verify(path: Path, expected: ModelFile) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}; install the model again") from error
    if len(content) != expected.bytes:
        raise ModelError(
            f"{path} has {len(content)} bytes, but its manifest says {expected.bytes}: it is truncated or "
            "belongs to another manifest; install the model again"
        )
    if _sha256(content) != expected.sha256:
        raise ModelError(f"{path} does not match the sha256 in its manifest; install the model again")


def _sha256(content: bytes) -> str:
    # Python's own implementation, by its newer or older name: hashlib would load OpenSSL, which is four
    # megabytes of a listener's memory for this one call.
    name = next(name for name in ("_sha2", "_sha256", "hashlib") if importlib.util.find_spec(name))
    digest: str = importlib.import_module(name).sha256(content).hexdigest()
    return digest
