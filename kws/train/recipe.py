"""The recipe: every setting of a training run, read from one YAML file (configs/train/*.yaml)."""

from dataclasses import dataclass, field
from typing import Literal

from kws.errors import ConfigError
from kws.evaluate.playlist import EvaluationSettings
from kws.features import FeatureSettings
from kws.manifest import UNKNOWN, words_of
from kws.train.reference import MAX_WEIGHT

Range = tuple[float, float]


@dataclass(frozen=True)
class NetworkSettings:
    """Size and reach of the network."""

    channels: int = 64
    """Width of every convolution."""
    kernel: int = 5
    """Taps of each block's convolution."""
    dilations: tuple[int, ...] = (1, 1, 2, 4, 4, 8)
    """One block each; steps of the strided rate between the taps."""
    stem_kernel: int = 5
    """Taps of the first convolution, over frames."""
    stride: int = 2
    """Frames per logit."""
    dropout: float = 0.05
    """Probability that a channel is silenced before the head while training."""

    @property
    def receptive_field_frames(self) -> int:
        """Frames of past audio, the current one included, that one logit depends on."""
        return self.stem_kernel + self.stride * (self.kernel - 1) * sum(self.dilations)


@dataclass(frozen=True)
class Augmentation:
    """How clean recordings become rooms, kitchens and cheap microphones. All probabilities are per window."""

    speed: Range = (0.87, 1.15)
    """Playback speed of the speech: pitch and tempo together."""
    room_probability: float = 0.5
    """Chance of a room response."""
    simulated_rooms: int = 150
    """Rooms simulated with the image-source method, beside the measured responses."""
    noise_probability: float = 0.75
    """Chance of noise, music or babble under the speech."""
    snr_db: Range = (-5.0, 20.0)
    """Level of the speech over that noise."""
    eq_probability: float = 0.5
    """Chance of a smooth random frequency response."""
    eq_db: float = 8.0
    """Largest gain or loss of that response."""
    telephone_probability: float = 0.05
    """Chance of a band limited to 300..3400 Hz."""
    level_db: Range = (-45.0, -8.0)
    """RMS of the whole window, in dB of full scale."""
    clip_probability: float = 0.05
    """Chance of hard clipping, 3 to 15 dB over full scale."""
    hiss_db: Range = (-95.0, -60.0)
    """White noise of the microphone, in dB of full scale."""
    gain_bel: float = 0.6
    """Extra level change of the features at every use of a window, plus or minus."""
    cut_probability: float = 0.0
    """Chance, at each end, that a window breaks off into digital silence; never inside a keyword."""
    vocal_tract: Range = (0.87, 1.15)
    """Stretch of the mel axis at every use of a window: longer and shorter vocal tracts."""
    tempo: Range = (0.85, 1.18)
    """Speed of the frames at every use of a window, the pitch left alone; the word's end stays in place."""
    time_masks: int = 1
    """SpecAugment (arXiv 1904.08779): stretches of frames set to silence."""
    time_mask_frames: int = 8
    """Longest such stretch."""
    mel_masks: int = 2
    """SpecAugment: bands set to silence."""
    mel_mask_bands: int = 5
    """Widest such band."""


@dataclass(frozen=True)
class Data:
    """Which windows are drawn, and how often."""

    corpus: str = ""
    """Folder with a manifest.csv (docs/corpus.md); `kws train --data` overrides it."""
    speech: tuple[str, ...] = ()
    """More corpora, as `kws corpus negatives` and `kws corpus words` build them."""
    exclude: tuple[str, ...] = ()
    """Sources (folders of the corpus) that this run must not see."""
    window_frames: int = 240
    """Length of a training window; longer than the receptive field."""
    positives: int = 36_000
    """Rendered windows that hold a keyword, spread evenly over the keywords."""
    negatives: int = 108_000
    """Rendered windows without one."""
    real_share: float = 0.6
    """Share of the positives that are real recordings, where many people said the keyword; of few, less."""
    context_share: float = 0.3
    """Share of the positives with other speech right before or after the word."""
    alone_share: float = 0.5
    """Share of the spoken negatives that are a few words with a pause before them, as keywords come."""
    negative_shares: dict[str, float] = field(
        default_factory=lambda: {
            "speech": 0.42,
            "synthetic": 0.20,
            "words": 0.17,
            "near": 0.05,
            "partial": 0.02,
            "ambient": 0.14,
        }
    )
    """Running speech; the same by synthesizers; single words in a row; phrases made to sound alike; half
    keywords; noise and music."""

    def __post_init__(self) -> None:
        """Refuse data that could teach nothing."""
        _at_least_one(self, "positives", "negatives")
        kinds = ("speech", "synthetic", "words", "near", "partial", "ambient")
        if set(self.negative_shares) - set(kinds) or sum(self.negative_shares.values()) <= 0:
            raise ConfigError(f"negative_shares must give shares to some of {', '.join(kinds)}; correct it")


@dataclass(frozen=True)
class Training:
    """Optimisation of the float network."""

    steps: int = 6000
    """Optimiser steps; 0 keeps the weights of `start`."""
    positives_per_batch: int = 80
    """Windows with a keyword in each batch."""
    negatives_per_batch: int = 176
    """Windows without one in each batch."""
    mined_share: float = 0.5
    """Share of the negatives drawn from the hardest ones seen so far."""
    mined_fraction: float = 0.1
    """The hardest ones: this fraction of all negatives, by their last loss."""
    mining_rounds: int = 2
    """Times that all negatives are played to the network, to draw more windows where it is wrong."""
    mined_windows: int = 9_216
    """Windows drawn in each round."""
    learning_rate: float = 2e-3
    """Peak; rises over the first 5 % of the steps, then falls along a cosine."""
    weight_decay: float = 0.02
    """AdamW's decoupled weight decay, on weights only."""
    average_decay: float = 0.998
    """Exponential moving average of the weights; the average is what is validated and kept."""
    averaged_checkpoints: int = 3
    """The mean of the last checkpoints, up to so many, is validated beside each; 1: no such mean."""
    validate_every_steps: int = 500
    """Steps between two checkpoints and validations."""
    early_ms: int = 40
    """The score may peak this long before the end of the word ..."""
    late_ms: int = 280
    """... to this long after it."""
    smoothing_steps: int = 8
    """Logits averaged into a score, while training and listening."""
    label_smoothing: float = 0.1
    """Of a classifier: this share of the truth is spread evenly over all answers (arXiv 1512.00567)."""

    def __post_init__(self) -> None:
        """Refuse a run that would see no window."""
        _at_least_one(
            self,
            "positives_per_batch",
            "negatives_per_batch",
            "averaged_checkpoints",
            "validate_every_steps",
            "smoothing_steps",
        )
        _not_negative(self, "steps")
        if not 0 <= self.mined_share <= 1 or not 0 < self.mined_fraction <= 1:
            raise ConfigError("mined_share and mined_fraction are shares of 1; correct them")


@dataclass(frozen=True)
class Quantisation:
    """Quantisation-aware fine-tuning."""

    steps: int = 1200
    """Optimiser steps; 0 only calibrates the ranges (post-training quantisation)."""
    weight_bits: Literal[8, 4, 3] = 8
    """Precision of the weights; activations have 8 bits, and so has the storage of every weight."""
    learning_rate: float = 2e-4
    """Peak for weights; falls along a cosine."""
    scale_learning_rate: float = 1e-4
    """Peak for the scales, relative to each scale's own size by Adam."""
    calibration_windows: int = 1024
    """Windows that fix the first activation ranges."""

    def __post_init__(self) -> None:
        """Refuse a run without ranges."""
        _at_least_one(self, "calibration_windows")
        _not_negative(self, "steps")

    @property
    def largest_weight(self) -> int:
        """Codes of weights lie within plus and minus this: of 8 bits, what AVX2 can multiply."""
        return {8: MAX_WEIGHT, 4: 7, 3: 3}[self.weight_bits]


@dataclass(frozen=True)
class Validation:
    """What decides which checkpoint is kept."""

    split: str = "dev"
    """Split whose speakers and sources are never trained on."""
    snr_db: float = 10.0
    """Noise under the keywords."""
    false_accepts_per_hour: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0)
    """Operating points: the mean false reject rate over all of them chooses the checkpoint.

    One point would hang on one or two false accepts in a few hours of audio."""
    fold: str = ""
    """Cross-validation: "2/5" holds out the second of five groups of the people who say a keyword."""

    def __post_init__(self) -> None:
        """Refuse what `kws evaluate` would refuse, a fold that is none."""
        _ = self.rules

    @property
    def rules(self) -> EvaluationSettings:
        """Its part of the scoring rules; the others are those of `kws evaluate`."""
        return EvaluationSettings(split=self.split, fold=self.fold, snr_db=(self.snr_db,), mixes=1)


@dataclass(frozen=True)
class Recipe:
    """One YAML file."""

    name: str
    """Name of the model folder."""
    keywords: tuple[str, ...]
    """Phrases as people write them; lead-in words ("hey") are understood by themselves. With `_unknown_` at
    the end the model is a classifier: one decision for each short clip, `_silence_` being one more label."""
    start: str = ""
    """Run folder, model folder or model name whose float weights are the first ones; empty: random ones."""
    seed: int = 0
    """Of everything random."""
    licence: str = "Apache-2.0"
    """Licence of the trained weights."""
    features: FeatureSettings = field(default_factory=FeatureSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    data: Data = field(default_factory=Data)
    augmentation: Augmentation = field(default_factory=Augmentation)
    training: Training = field(default_factory=Training)
    quantisation: Quantisation = field(default_factory=Quantisation)
    validation: Validation = field(default_factory=Validation)

    def __post_init__(self) -> None:
        """Refuse what training cannot work with: no weights, an order of outputs, a receptive field."""
        if not self.training.steps and not self.start:
            raise ConfigError("training.steps is 0, but start names no weights to keep; set one of them")
        if UNKNOWN in self.keywords[:-1]:
            raise ConfigError(f"keywords must name {UNKNOWN} last; move it")
        field_frames = self.network.receptive_field_frames
        if field_frames > self.data.window_frames:
            raise ConfigError(
                f"data.window_frames is shorter than the receptive field of {field_frames}; enlarge it"
            )

    @property
    def words(self) -> tuple[str, ...]:
        """The keywords that people say: all but UNKNOWN."""
        return words_of(self.keywords)

    @property
    def classifies(self) -> bool:
        """Whether the model decides once for each clip (`kws classify`)."""
        return UNKNOWN in self.keywords

    @property
    def window_samples(self) -> int:
        """Samples under one training window."""
        return (self.data.window_frames - 1) * self.features.hop_samples + self.features.window_samples


def _at_least_one(settings: object, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 1:
            raise ConfigError(f"{name} must be at least 1; raise it")


def _not_negative(settings: object, *names: str) -> None:
    for name in names:
        if getattr(settings, name) < 0:
            raise ConfigError(f"{name} must not be negative; raise it")
