"""Each augmentation does what it says, measured on its output, and a batch is a function of its seed."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")

from kws.train.augment import (  # noqa: E402
    Augment,
    Dice,
    Equaliser,
    FrameAugment,
    Microphone,
    Mix,
    Room,
    Speed,
    active_rms,
)
from kws.train.recipe import Augmentation  # noqa: E402
from kws.train.rooms import simulate_rooms, stack_responses  # noqa: E402

pytestmark = pytest.mark.train

RATE_HZ = 16_000
COUNT = 16


PLAIN = {
    "gain_bel": 0.0,
    "cut_probability": 0.0,
    "vocal_tract": (1.0, 1.0),
    "tempo": (1.0, 1.0),
    "time_masks": 0,
    "mel_masks": 0,
}
"""Settings under which `FrameAugment` does nothing."""


def dice(seed: int = 0) -> Dice:
    return Dice(seed, torch.device("cpu"))


def tone(hz: float, seconds: float = 1.0) -> torch.Tensor:
    time = torch.arange(int(seconds * RATE_HZ)) / RATE_HZ
    return (0.1 * torch.sin(2 * torch.pi * hz * time)).expand(COUNT, -1).clone()


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(COUNT, RATE_HZ, generator=torch.Generator().manual_seed(seed)) * 0.1


def test_speed_moves_the_pitch_by_its_factor_and_keeps_the_anchor() -> None:
    faster = Speed((1.25, 1.25))(tone(1000), torch.full((COUNT,), 8000.0), dice())
    middle = faster[0, 4000:12000]
    loudest = torch.fft.rfft(middle * torch.hann_window(8000)).abs().argmax() * RATE_HZ / 8000
    assert float(loudest) == pytest.approx(1250, abs=3)
    click = torch.zeros(COUNT, RATE_HZ)
    click[:, 8000] = 1
    assert (
        Speed((0.8, 1.25))(click, torch.full((COUNT,), 8000.0), dice()).argmax(1).tolist() == [8000] * COUNT
    )


def test_speed_of_one_changes_nothing() -> None:
    x = noise()
    assert torch.allclose(Speed((1, 1))(x, torch.zeros(COUNT), dice()), x, atol=1e-6)


def test_room_keeps_the_start_and_adds_a_tail() -> None:
    responses = torch.from_numpy(stack_responses(simulate_rooms(3, RATE_HZ, seed=0), RATE_HZ))
    assert torch.allclose(responses.square().sum(1), torch.ones(3), atol=1e-4)
    click = torch.zeros(COUNT, RATE_HZ)
    click[:, 1000] = 1
    wet = Room(responses, probability=1)(click, dice())
    assert wet[:, :1000].abs().max() < 1e-4
    assert (wet[:, 1400:].square().sum(1) > 0).all()


def test_mix_has_the_drawn_ratio() -> None:
    speech, background = noise(1), noise(2) * 7
    mixed = Mix(1.0, (6.0, 6.0))(speech, background, dice())
    added = (mixed - speech).square().mean(1).sqrt()
    ratio_db = 20 * torch.log10(active_rms(speech) / added)
    assert torch.allclose(ratio_db, torch.full((COUNT,), 6.0), atol=0.01)


def test_speech_level_ignores_the_pauses_around_it() -> None:
    speech = noise()
    paused = torch.cat([torch.zeros_like(speech), speech, torch.zeros_like(speech)], 1)
    assert torch.allclose(active_rms(paused), active_rms(speech), rtol=0.02)


def test_window_without_speech_is_its_background() -> None:
    mixed = Mix(0.0, (0.0, 0.0))(torch.zeros(COUNT, RATE_HZ), noise(), dice())
    assert (mixed.abs().amax(1) > 0).all()


def test_telephone_band_removes_what_lies_outside() -> None:
    telephone = Equaliser(0.0, 0.0, 1.0, RATE_HZ)
    inside, outside = (telephone(tone(hz), dice())[:, 2000:-2000] for hz in (1000, 6000))
    assert float(20 * torch.log10(inside.std() / outside.std())) > 30


def test_equaliser_stays_within_its_gain() -> None:
    change = Equaliser(1.0, 6.0, 0.0, RATE_HZ)(tone(1500), dice())[:, 2000:-2000].std(1) / tone(1500).std()
    gain_db = 20 * torch.log10(change)
    assert gain_db.abs().max() < 6.5
    assert gain_db.std() > 0.5


def test_microphone_sets_the_level_and_never_exceeds_full_scale() -> None:
    plain = Augmentation(level_db=(-30, -30), clip_probability=0, hiss_db=(-120, -120))
    heard = Microphone(plain)(noise() * 5, dice())
    assert torch.allclose(20 * torch.log10(heard.square().mean(1).sqrt()), torch.tensor(-30.0), atol=0.1)
    clipped = Microphone(Augmentation(clip_probability=1))(noise(), dice())
    assert clipped.abs().max() <= 1
    assert ((clipped.abs() == 1).float().mean(1) > 0.001).all()


def frame_augment(frames: torch.Tensor, word: tuple[int, int] = (0, 0), **changes: object) -> torch.Tensor:
    start, end = (torch.full((len(frames),), edge) for edge in word)
    return FrameAugment(Augmentation(**(PLAIN | changes)))(frames, (start, end), dice())


def test_plain_settings_change_no_frame() -> None:
    frames = torch.rand(COUNT, 40, 20)
    assert torch.equal(frame_augment(frames), frames)


def test_frame_masks_are_no_wider_than_allowed() -> None:
    frames = frame_augment(torch.ones(200, 4, 50), time_masks=1, time_mask_frames=5)
    widths = (frames[:, 0] == 0).sum(1)
    assert set(widths.tolist()) == set(range(6))


def test_vocal_tract_moves_a_formant_by_its_factor() -> None:
    frames = torch.zeros(3, 40, 5)
    frames[:, 20] = 4
    moved = frame_augment(frames, vocal_tract=(1.25, 1.25))
    assert moved[:, :, 0].argmax(1).tolist() == [16, 16, 16]


def test_gain_leaves_silence_silent() -> None:
    frames = frame_augment(torch.cat([torch.zeros(8, 4, 10), torch.full((8, 4, 10), 4.0)], 2), gain_bel=0.5)
    assert (frames[..., :10] == 0).all()
    assert ((frames[..., 10:] - 4).abs() <= 0.5).all()


def test_cuts_never_touch_the_word_and_leave_nothing_beyond() -> None:
    frames = frame_augment(torch.ones(300, 1, 100), word=(40, 60), cut_probability=1.0)[:, 0]
    assert (frames[:, 40:60] == 1).all()
    assert (frames.diff(dim=1) != 0).sum(1).max() <= 2  # one stretch is left
    lengths = frames.sum(1)
    assert lengths.min() < 30
    assert lengths.std() > 5


def test_window_without_a_word_may_break_off_anywhere_in_its_second_half() -> None:
    last = frame_augment(torch.ones(300, 1, 100), cut_probability=1.0)[:, 0].cumsum(1).argmax(1)
    assert last.min() >= 49
    assert last.max() > 90


def test_same_seed_gives_the_same_batch_and_another_another() -> None:
    responses = torch.from_numpy(stack_responses([np.eye(1, 400, dtype=np.float32)[0]], RATE_HZ))
    augment = Augment(Augmentation(), responses, RATE_HZ)
    anchor = torch.full((COUNT,), 8000.0)
    first, second, other = (augment(noise(1), noise(2), anchor, dice(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert first.isfinite().all()


def test_tempo_leaves_the_end_of_the_word_in_place_and_moves_what_was_before() -> None:
    frames = torch.zeros(3, 4, 60)
    frames[:, :, 20] = frames[:, :, 40] = 1
    slower = frame_augment(frames, (20, 40), tempo=(0.8, 0.8))
    assert (slower[:, :, 40] == 1).all()
    assert slower[:, :, :35].argmax(2).unique().tolist() == [15]  # 20 frames before the end are now 25


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_tempo_keeps_a_steady_sound_and_its_length(factor: float) -> None:
    frames = torch.full((3, 4, 60), 2.0)
    assert torch.equal(frame_augment(frames, (10, 50), tempo=(factor, factor)), frames)
