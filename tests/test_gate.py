"""The gate: what it passes, what it skips, and that a pipeline behind it hears the same at the same times."""

import numpy as np
import pytest
from conftest import RATE_HZ, noise_band
from hypothesis import given
from hypothesis import strategies as st

from kws.errors import AudioError, ConfigError
from kws.gate import STEP_MS, Gate, GateSettings
from kws.manifest import installed_models, read_manifest
from kws.pipeline import Pipeline

STEP = RATE_HZ * STEP_MS // 1000
SETTINGS = GateSettings(background_seconds=2.0)


def room(seconds, dbfs=-60.0, seed=0):
    """Steady white noise."""
    count = round(seconds * RATE_HZ)
    return (10 ** (dbfs / 20) * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


def note(seconds=0.5, peak=0.3, band=(500, 3000)):
    return noise_band(*band, seconds) * np.float32(peak / 0.3)


def with_note(before_s, after_s, sound, dbfs=-60.0):
    """A room in which a note is played after `before_s`."""
    track = room(before_s + len(sound) / RATE_HZ + after_s, dbfs)
    first = round(before_s * RATE_HZ)
    track[first : first + len(sound)] += sound
    return track


def heard(gate, track, cuts=()):
    """(first sample, samples) of each stretch that was passed on, joined where nothing lies between."""
    stretches, position = [], 0
    for part in np.split(track, sorted(cuts)):
        for skipped, samples in gate.feed(part):
            position += skipped
            if skipped or not stretches:
                stretches.append((position, []))
            stretches[-1][1].extend(samples.tolist())
            position += len(samples)
    return [(first, np.array(samples, np.float32)) for first, samples in stretches]


def seconds(stretches):
    return [(first / RATE_HZ, (first + len(samples)) / RATE_HZ) for first, samples in stretches]


TRACK = np.concatenate([with_note(6, 4, note()), with_note(3, 3, note(0.1, peak=0.02)), room(2)])


@given(st.lists(st.integers(0, len(TRACK)), max_size=40))
def test_any_cut_passes_the_same_audio_at_its_place(cuts):
    gate = Gate(SETTINGS, RATE_HZ)
    stretches = heard(gate, TRACK, cuts)
    whole = heard(Gate(SETTINGS, RATE_HZ), TRACK)
    assert [first for first, _ in stretches] == [first for first, _ in whole]
    for first, samples in stretches:
        assert np.array_equal(samples, TRACK[first : first + len(samples)])
    assert sum(len(samples) for _, samples in stretches) == sum(len(samples) for _, samples in whole)
    assert gate.samples == len(TRACK)


def test_quiet_is_skipped_and_a_note_is_passed_with_what_was_before_and_after_it():
    (start, note_heard) = seconds(heard(Gate(SETTINGS, RATE_HZ), with_note(8, 6, note())))
    assert start[0] == 0.0
    assert 2.0 <= start[1] <= 3.0  # it was open until it knew the background
    assert 8 - SETTINGS.pre_roll_seconds - 0.16 <= note_heard[0] <= 8 - SETTINGS.pre_roll_seconds + 0.08
    assert 8.5 + SETTINGS.hang_over_seconds <= note_heard[1] <= 8.5 + SETTINGS.hang_over_seconds + 0.2


def test_counters_add_up():
    gate, track = Gate(SETTINGS, RATE_HZ), with_note(8, 6, note())
    passed = sum(len(samples) for _, samples in heard(gate, track))
    held = gate.samples - passed - gate.skipped_samples
    assert gate.samples == len(track)
    assert 0 <= held <= (SETTINGS.pre_roll_seconds + 0.16) * RATE_HZ
    assert gate.skipped_samples > (8 - SETTINGS.pre_roll_seconds) * RATE_HZ
    assert gate.level_dbfs == pytest.approx(-60, abs=1)
    assert gate.floor_dbfs == pytest.approx(-60.5, abs=1)


@pytest.mark.parametrize("dbfs", [-30, -60, -75, -200])
def test_any_steady_room_closes_it_and_a_note_ten_decibels_above_opens_it(dbfs):
    """At -200 dBFS the room is digital silence, where a far whisper at -70 dBFS opens."""
    sound = note(peak=1.0)
    sound *= np.float32(10 ** (max(dbfs + 10, -70) / 20) / np.std(sound))
    stretches = seconds(heard(Gate(SETTINGS, RATE_HZ), with_note(8, 4, sound, dbfs)))
    assert len(stretches) == 2
    assert stretches[1][0] < 8
    assert stretches[1][1] > 8.5


def test_word_as_loud_as_the_room_opens_it():
    """The same power as white noise, but in less than half of the bands."""
    sound = note(0.5)
    sound *= np.float32(1e-3 / np.std(sound))
    assert len(heard(Gate(SETTINGS, RATE_HZ), with_note(8, 4, sound))) == 2


def test_hum_hides_nothing():
    """A hum of mains, 30 dB louder than the note, and an offset of the microphone."""
    track = with_note(8, 4, note(peak=0.003), dbfs=-80)
    time = np.arange(len(track)) / RATE_HZ
    hum = 0.1 + 0.05 * np.sin(2 * np.pi * 50 * time) + 0.05 * np.sin(2 * np.pi * 100 * time)
    stretches = seconds(heard(Gate(SETTINGS, RATE_HZ), track + hum.astype(np.float32)))
    assert len(stretches) == 2
    assert stretches[1][0] < 8
    assert stretches[1][1] > 8.5


def test_fan_that_is_switched_on_becomes_background():
    track = np.concatenate([room(6), room(10, -40), room(6)])
    stretches = seconds(heard(Gate(SETTINGS, RATE_HZ), track))
    assert len(stretches) == 2
    assert stretches[1][0] < 6
    assert 8 < stretches[1][1] < 10
    with_word = track.copy()
    with_word[20 * RATE_HZ : 21 * RATE_HZ] += note(
        1, peak=0.01
    )  # after the fan: the quiet room is known again
    assert len(heard(Gate(SETTINGS, RATE_HZ), with_word)) == 3


def test_integers_and_floats_pass_alike():
    codes = np.rint(TRACK * 32768).astype(np.int16)
    floats = codes.astype(np.float32) / np.float32(32768)
    of_floats, of_codes = (Gate(SETTINGS, RATE_HZ) for _ in range(2))
    assert seconds(heard(of_floats, floats))[1:] == seconds(heard(of_codes, codes))[1:]
    assert of_floats.skipped_samples == of_codes.skipped_samples > 0


def test_reset_starts_a_new_stream():
    gate = Gate(SETTINGS, RATE_HZ)
    first = seconds(heard(gate, TRACK))
    gate.reset()
    assert (gate.samples, gate.skipped_samples, gate.is_open) == (0, 0, True)
    assert seconds(heard(gate, TRACK)) == first


@pytest.mark.parametrize(
    "wrong", [np.zeros((10, 2), np.int16), np.full(10, np.nan, np.float32), np.zeros(10)]
)
def test_samples_that_are_no_audio_are_refused(wrong):
    with pytest.raises(AudioError):
        Gate(SETTINGS, RATE_HZ).feed(wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"margin_db": 0.0}, {"hang_over_seconds": 0.1}, {"pre_roll_seconds": 9.0}, {"background_seconds": 0.0}],
)
def test_settings_that_lose_words_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=f"^{name} must lie in"):
        GateSettings(**wrong)


def run(pipeline, track, block=STEP):
    return [d for i in range(0, len(track), block) for d in pipeline.feed(track[i : i + block])]


@pytest.mark.parametrize("block", [STEP, 160, 16_000, 12_345])
def test_pipeline_behind_a_gate_hears_the_same_at_the_same_times(toy_model, notes, block):
    track = np.concatenate([room(12), notes, room(12, seed=1), notes, room(7, seed=2)])
    plain, gated = Pipeline(toy_model), Pipeline(toy_model, gate=SETTINGS)
    wanted, found = run(plain, track, block), run(gated, track, block)
    assert [d.keyword for d in wanted] == ["low note", "high note"] * 2
    assert [(d.keyword, d.sample) for d in found] == [(d.keyword, d.sample) for d in wanted]
    assert gated.gate.skipped_samples > 10 * RATE_HZ


def test_scores_behind_a_gate_are_the_same_bits(toy_model, notes):
    """From the step on that opens it: the pre-roll is longer than what a score depends on."""
    track = np.concatenate([room(12), notes, room(6, seed=1)])
    plain, gated = Pipeline(toy_model), Pipeline(toy_model, gate=SETTINGS)
    compared = 0
    for first in range(0, len(track), STEP):
        plain.feed(track[first : first + STEP])
        was_open = gated.gate.is_open
        gated.feed(track[first : first + STEP])
        if gated.gate.is_open:
            rows = len(plain.scores)
            assert np.array_equal(gated.scores[-rows:] if rows else gated.scores, plain.scores)
            compared += not was_open
    assert compared >= 1


@pytest.mark.parametrize("folder", installed_models(), ids=lambda folder: folder.name)
def test_pre_roll_is_as_long_as_an_installed_model_remembers(folder):
    assert GateSettings().pre_roll_seconds >= read_manifest(folder).memory_seconds


def test_closed_gate_costs_no_model(toy_model):
    pipeline = Pipeline(toy_model, gate=SETTINGS)
    run(pipeline, room(8))
    assert not pipeline.gate.is_open
    assert (pipeline.spent_ns.features, pipeline.spent_ns.model, len(pipeline.scores)) == (0, 0, 0)
    assert pipeline.spent_ns.gate > 0
    assert pipeline.flush() == []
    pipeline.feed(note(0.08))
    assert pipeline.spent_ns.model > 0


def test_gate_can_be_switched_off(toy_model):
    pipeline = Pipeline(toy_model, gate=GateSettings(enabled=False))
    assert pipeline.gate is None
    run(pipeline, room(1))
    assert len(pipeline.scores)
    assert min(pipeline.spent_ns[1:]) > 0
