"""Augmentation as torch modules on batches of samples (B, n) or frames (B, n_mels, T), on any device.

Each module draws from its own `torch.Generator`, one draw per window, so that a batch is a function of its
seed alone. Order: speed -> room -> mix (noise at an SNR) -> equaliser -> level, hiss and clipping; then the
front end; then `FrameAugment` at every use of a cached window.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kws.train.recipe import Augmentation, Range

ACTIVE_DB = 30.0
"""Speech level is measured over blocks at most this far below the loudest one."""
BLOCK_SAMPLES = 320
FILTER_TAPS = 129
OUT_OF_BAND_DB = -100.0
"""Of a telephone. It leaves nothing there, and a gain would bring back whatever is left."""


class Dice:
    """Random draws on one device from one seeded generator."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """Uniform numbers in [low, high)."""
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def happens(self, count: int, probability: float) -> Tensor:
        """One yes or no per window, (count,)."""
        return torch.rand(count, generator=self.generator, device=self.device) < probability

    def choose(self, count: int, options: int) -> Tensor:
        """One index below `options` per window, (count,)."""
        return torch.randint(options, (count,), generator=self.generator, device=self.device)

    def noise(self, like: Tensor) -> Tensor:
        """White Gaussian noise of unit power."""
        return torch.randn(like.shape, generator=self.generator, device=self.device)


class Speed(nn.Module):
    """Plays speech faster or slower (pitch and tempo together) around an anchor that stays in place."""

    def __init__(self, speed: Range) -> None:
        super().__init__()
        self.speed = speed

    def forward(self, speech: Tensor, anchor: Tensor, dice: Dice) -> Tensor:
        """Resample by Catmull-Rom interpolation; speech (B, n), anchor (B,) in samples."""
        count, n = speech.shape
        low, high = (math.log(s) for s in self.speed)
        factor = torch.exp(dice.uniform((count, 1), low, high))
        time = torch.arange(n, device=speech.device, dtype=torch.float32)
        position = anchor[:, None] + (time - anchor[:, None]) * factor + 1  # +1: one sample of padding
        padded = F.pad(speech, (1, 2))
        position = position.clamp(1, n)
        index = position.floor().long()
        t = position - index
        p0, p1, p2, p3 = (padded.gather(1, index + k) for k in (-1, 0, 1, 2))
        out: Tensor = p1 + 0.5 * t * (
            p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
        )
        return out


class Room(nn.Module):
    """Convolves with a random response of unit energy whose direct sound comes first."""

    responses: Tensor

    def __init__(self, responses: Tensor, probability: float) -> None:
        super().__init__()
        self.probability = probability
        self.register_buffer("responses", responses, persistent=False)

    def forward(self, speech: Tensor, dice: Dice) -> Tensor:
        """Reverberant speech (B, n); the tail beyond the window is cut."""
        where = dice.happens(len(speech), self.probability).nonzero()[:, 0]
        if not len(self.responses) or not len(where):
            return speech
        response = self.responses[dice.choose(len(where), len(self.responses))]
        wet = speech.clone()
        wet[where] = _convolve(speech[where], response)
        return wet


class Mix(nn.Module):
    """Adds the background at a random speech-to-noise ratio; without speech, the background alone."""

    def __init__(self, probability: float, snr_db: Range) -> None:
        super().__init__()
        self.probability, self.snr_db = probability, snr_db

    def forward(self, speech: Tensor, background: Tensor, dice: Dice) -> Tensor:
        """Mixture (B, n)."""
        level, noise_level = active_rms(speech), background.square().mean(1).sqrt()
        snr_db = dice.uniform((len(speech),), *self.snr_db)
        silent = level < 1e-5
        level = torch.where(silent, torch.full_like(level, 0.1), level)
        gain = level / noise_level.clamp_min(1e-5) * 10 ** (-snr_db / 20)
        wanted = dice.happens(len(speech), self.probability) | silent
        return speech + background * (gain * wanted)[:, None]


class Equaliser(nn.Module):
    """A smooth random frequency response, now and then the band of a telephone: microphones differ."""

    def __init__(self, probability: float, eq_db: float, telephone: float, sample_rate_hz: int) -> None:
        super().__init__()
        self.probability, self.eq_db, self.telephone = probability, eq_db, telephone
        self.sample_rate_hz = sample_rate_hz

    def forward(self, samples: Tensor, dice: Dice) -> Tensor:
        """Filtered samples (B, n), by a linear-phase filter of FILTER_TAPS taps."""
        count, bins = len(samples), FILTER_TAPS // 2 + 1
        knots = dice.uniform((count, 1, 8), -self.eq_db, self.eq_db)
        curve_db = F.interpolate(knots, bins, mode="linear", align_corners=True)[:, 0]
        curve_db = curve_db * dice.happens(count, self.probability)[:, None]
        hz = torch.linspace(0, self.sample_rate_hz / 2, bins, device=samples.device)
        band_db = torch.where((hz > 300) & (hz < 3400), 0.0, OUT_OF_BAND_DB)
        curve_db = curve_db + band_db * dice.happens(count, self.telephone)[:, None]
        taps = torch.fft.irfft(torch.pow(10.0, curve_db / 20) + 0j, n=FILTER_TAPS)
        taps = (
            taps.roll(FILTER_TAPS // 2, 1)
            * torch.hann_window(FILTER_TAPS + 2, periodic=False, device=samples.device)[1:-1]
        )
        return _convolve(F.pad(samples, (0, FILTER_TAPS // 2)), taps)[:, FILTER_TAPS // 2 :]


class Microphone(nn.Module):
    """Sets the level of the whole window, adds the hiss of the converter, clips now and then."""

    def __init__(self, settings: Augmentation) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, samples: Tensor, dice: Dice) -> Tensor:
        """Samples (B, n) within -1..1."""
        s, count = self.settings, len(samples)
        level_db = dice.uniform((count,), *s.level_db)
        over_db = dice.uniform((count,), 3, 15) * dice.happens(count, s.clip_probability)
        peak = samples.abs().amax(1).clamp_min(1e-9)
        gain = 10 ** (level_db / 20) / samples.square().mean(1).sqrt().clamp_min(1e-9)
        gain = torch.minimum(gain, 1 / peak)  # full scale is the limit, unless it is to be clipped
        gain = torch.where(over_db > 0, 10 ** (over_db / 20) / peak, gain)
        hiss = 10 ** (dice.uniform((count, 1), *s.hiss_db) / 20)
        return (samples * gain[:, None] + dice.noise(samples) * hiss).clamp(-1, 1)


class Augment(nn.Module):
    """Dry speech and a background to what a microphone would have heard."""

    def __init__(self, settings: Augmentation, responses: Tensor, sample_rate_hz: int) -> None:
        super().__init__()
        self.speed = Speed(settings.speed)
        self.room = Room(responses, settings.room_probability)
        self.mix = Mix(settings.noise_probability, settings.snr_db)
        self.equaliser = Equaliser(
            settings.eq_probability, settings.eq_db, settings.telephone_probability, sample_rate_hz
        )
        self.microphone = Microphone(settings)

    def forward(self, speech: Tensor, background: Tensor, anchor: Tensor, dice: Dice) -> Tensor:
        """Samples (B, n) in -1..1; `anchor` (B,) is the sample that the change of speed keeps in place."""
        speech = self.room(self.speed(speech, anchor, dice), dice)
        mixture = self.mix(speech, background, dice)
        heard: Tensor = self.microphone(self.equaliser(mixture, dice), dice)
        return heard


class FrameAugment(nn.Module):
    """Cheap variety at every use of a cached window: level, vocal tract, cuts and masks set to silence.

    Vocal tract length perturbation (Jaitly and Hinton, 2013) here stretches the mel axis; masks are those of
    SpecAugment (arXiv 1904.08779).
    """

    def __init__(self, settings: Augmentation) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, frames: Tensor, word: tuple[Tensor, Tensor], dice: Dice) -> Tensor:
        """Frames (B, n_mels, T) in bel; `word`: its first frame and the one after its last, 0 without one."""
        s = self.settings
        frames = frames * self._within_cuts(frames.shape[2], *word, dice)[:, None, :]
        frames = _at_tempo(frames, word[1], dice.uniform((len(frames),), *s.tempo))
        gain = dice.uniform((len(frames), 1, 1), -s.gain_bel, s.gain_bel)
        frames = _mel_warp(frames.shape[1], dice.uniform((len(frames),), *s.vocal_tract)) @ frames
        # Silence stays silence: only what lies well above the floor follows the gain.
        frames = torch.where(frames > 1, (frames + gain).clamp_min(0), frames)
        for _ in range(s.time_masks):
            frames = frames * _kept(frames.shape[0], frames.shape[2], s.time_mask_frames, dice)[:, None, :]
        for _ in range(s.mel_masks):
            frames = frames * _kept(frames.shape[0], frames.shape[1], s.mel_mask_bands, dice)[:, :, None]
        return frames

    def _within_cuts(self, length: int, start: Tensor, end: Tensor, dice: Dice) -> Tensor:
        """1 between the cuts of each window, 0 outside, (B, T)."""
        count, chance = len(start), self.settings.cut_probability
        place = torch.arange(length, device=dice.device)
        lacks_word = end == 0
        # Cuts are drawn close to the word, where they matter; without one, towards the middle of the window.
        last_start = torch.where(lacks_word, length // 2, start)[:, None]
        first_end = torch.where(lacks_word, length // 2, end)[:, None]
        opens = last_start * dice.uniform((count, 1), 0, 1).sqrt()
        closes = first_end + (length - first_end) * dice.uniform((count, 1), 0, 1).square()
        opens = opens * dice.happens(count, chance)[:, None]
        closes = torch.where(dice.happens(count, chance)[:, None], closes, float(length))
        return ((place >= opens.floor()) & (place < closes.ceil())).float()


def active_rms(samples: Tensor) -> Tensor:
    """RMS (B,) over the blocks of 20 ms that are at most ACTIVE_DB below the loudest one."""
    blocks = samples[:, : samples.shape[1] // BLOCK_SAMPLES * BLOCK_SAMPLES]
    power = blocks.unflatten(1, (-1, BLOCK_SAMPLES)).square().mean(2)
    active = power >= power.amax(1, keepdim=True) * 10 ** (-ACTIVE_DB / 10)
    return ((power * active).sum(1) / active.sum(1).clamp_min(1)).sqrt()


def _convolve(samples: Tensor, taps: Tensor) -> Tensor:
    """First n samples of each row's convolution with its own filter."""
    n = samples.shape[1]
    length = -(-(n + taps.shape[1]) // 2048) * 2048  # small prime factors keep the transform fast
    product = torch.fft.rfft(samples, length) * torch.fft.rfft(taps, length)
    return torch.fft.irfft(product, length)[:, :n]


def _mel_warp(n_mels: int, factor: Tensor) -> Tensor:
    """Matrices (B, n_mels, n_mels) that move band k * factor to band k, between bands by interpolation."""
    band = torch.arange(n_mels, device=factor.device)
    position = (band * factor[:, None]).clamp_max(n_mels - 1)
    return (1 - (position[:, :, None] - band).abs()).clamp_min(0)


def _at_tempo(frames: Tensor, end: Tensor, factor: Tensor) -> Tensor:
    """Frames (B, n_mels, T) at `factor` (B,) times their speed, interpolated; the word's `end` stays.

    Where a window is too short to be hastened, its frames come once more, backwards.
    """
    length = frames.shape[2]
    anchor = torch.where(end == 0, length // 2, end)[:, None].float()
    position = anchor + (torch.arange(length, device=frames.device) - anchor) * factor[:, None]
    position = (length - 1) - ((length - 1) - position.abs()).abs()
    before = position.floor().clamp(0, length - 2)
    weight = (position - before)[:, None, :]
    index = before.long()[:, None, :].expand_as(frames)
    return frames.gather(2, index) * (1 - weight) + frames.gather(2, index + 1) * weight


def _kept(count: int, length: int, widest: int, dice: Dice) -> Tensor:
    width = dice.uniform((count, 1), 0, widest + 1).floor()
    start = (dice.uniform((count, 1), 0, 1) * (length - width)).floor()
    place = torch.arange(length, device=dice.device)
    return ((place < start) | (place >= start + width)).float()
