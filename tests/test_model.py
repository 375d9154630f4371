"""Model and streams, against a second implementation of the toy network."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import toy
from hypothesis import given
from hypothesis import strategies as st

import kws
from kws.errors import AudioError, ModelError
from kws.features import LogMel
from kws.manifest import MANIFEST_FILE, MODEL_FILE, State, write_manifest
from kws.model import AFTERMATH_SECONDS, load_model

SETTLED = 40  # scores: more than the toy network looks back


def convolve(codes, weight, bias, *, gain, ends, dilation=1, stride=1):
    """Quantised causal convolution of a whole clip; codes (T, Cin), weight (Cout, Cin, k)."""
    source, target = ends
    kernel = weight.shape[2]
    past = np.full(((kernel - 1) * dilation - (stride - 1), codes.shape[1]), source.zero_point)
    x = np.concatenate([past, codes]).astype(np.int64) - source.zero_point
    length = len(codes) // stride
    taps = [x[k * dilation :][: length * stride : stride] @ weight[:, :, k].T for k in range(kernel)]
    real = source.scale * gain * (sum(taps) + np.rint(np.asarray(bias) / (source.scale * gain)))
    return np.clip(np.rint(real / target.scale) + target.zero_point, 0, 255)


def scores_by_hand(samples):
    frames = LogMel(toy.manifest_for(b"").features, toy.FRAMES_PER_STEP).feed(samples)
    frames = np.pad(frames, ((2 * SETTLED, 0), (0, 0)))  # a stream starts after long silence
    codes = np.clip(np.rint(frames / np.float32(toy.INPUT.scale)), 0, 255)
    halves = np.zeros((2, 40, 5), int)
    halves[0, :20] = halves[1, 20:] = 1
    x = convolve(codes, halves, [0, 0], gain=1 / 100, ends=(toy.INPUT, toy.STEM), stride=2)
    average = np.repeat(np.eye(2, dtype=int)[:, :, None], 5, axis=2)
    x = convolve(x, average, [0, 0], gain=1 / 5, ends=(toy.STEM, toy.MEAN), dilation=2)
    difference = np.array([[[10], [-10]], [[-10], [10]]])
    x = convolve(x, difference, [-10, -10], gain=0.5, ends=(toy.MEAN, toy.OUTPUT))
    steps = toy.manifest_for(b"").detector.smoothing_steps
    x = np.concatenate([np.zeros((steps - 1, 2)), x[SETTLED:]])
    mean = np.lib.stride_tricks.sliding_window_view(x, steps, axis=0).mean(-1)
    return 1 / (1 + np.exp(-toy.OUTPUT.scale * (mean - toy.OUTPUT.zero_point)))


def test_stream_equals_the_whole_clip_worked_out_by_hand(toy_model, notes):
    scores = toy_model.stream().feed(notes)
    assert scores.dtype == np.float32
    assert scores.shape[0] > 190
    np.testing.assert_allclose(scores, scores_by_hand(notes), atol=1e-6)


@given(st.lists(st.integers(0, 9_000), max_size=12))
def test_any_cut_gives_the_same_bits(toy_model, notes, cuts):
    stream = toy_model.stream()
    parts = [stream.feed(part) for part in np.split(notes, sorted(cuts))]
    np.testing.assert_array_equal(np.concatenate(parts), toy_model.stream().feed(notes))


def test_int16_and_float32_give_the_same_bits(toy_model, notes):
    as_int16 = (notes * 32768).astype(np.int16)
    as_float32 = as_int16.astype(np.float32) / np.float32(32768)
    np.testing.assert_array_equal(toy_model.stream().feed(as_int16), toy_model.stream().feed(as_float32))


def test_reset_forgets_everything(toy_model, notes):
    stream = toy_model.stream()
    expected = stream.feed(notes[:30_000])
    stream.feed(notes[:777])
    stream.reset()
    np.testing.assert_array_equal(stream.feed(notes[:30_000]), expected)


def test_flush_hears_the_silence_after_the_audio_and_resets(toy_model, notes):
    stream = toy_model.stream()
    silence = np.zeros(round(AFTERMATH_SECONDS * 16_000), np.float32)
    expected = stream.feed(np.concatenate([notes[:20_000], silence]))
    stream.reset()
    head = stream.feed(notes[:20_000])
    np.testing.assert_array_equal(np.concatenate([head, stream.flush()]), expected)
    np.testing.assert_array_equal(stream.feed(notes[:20_000]), head)


def test_word_that_fills_the_whole_stream_is_heard(toy_model, notes):
    stream, detector = toy_model.stream(), kws.Detector.for_model(toy_model)
    word = notes[16_000:24_000]
    (heard,) = detector.feed(np.concatenate([stream.feed(word), stream.flush()]))
    assert heard.keyword == "low note"


def test_streams_of_one_model_are_independent(toy_model, notes):
    one, other = toy_model.stream(), toy_model.stream()
    mixed = []
    for block in np.array_split(notes, 40):
        mixed.append(one.feed(block))
        other.feed(block[::-1].copy())
    np.testing.assert_array_equal(np.concatenate(mixed), toy_model.stream().feed(notes))


def test_result_is_not_overwritten_by_the_next_call(toy_model, notes):
    stream = toy_model.stream()
    first = stream.feed(notes[16_000:17_400])
    kept = first.copy()
    stream.feed(notes[17_400:20_000])
    np.testing.assert_array_equal(first, kept)


def test_too_few_samples_give_no_score(toy_model):
    stream = toy_model.stream()
    assert stream.feed(np.zeros(0, np.int16)).shape == (0, 2)
    assert stream.feed(np.zeros(100, np.int16)).shape == (0, 2)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((100, 2), np.int16), "choose one channel"),
        (np.zeros(100), "convert them"),
        (np.array([0, np.nan], np.float32), "repair the source"),
        (np.array([0, np.inf], np.float32), "repair the source"),
    ],
)
def test_samples_that_cannot_be_heard_are_refused_and_change_nothing(toy_model, notes, samples, message):
    stream = toy_model.stream()
    head = stream.feed(notes[:20_000])
    with pytest.raises(AudioError, match=message):
        stream.feed(samples)
    tail = stream.feed(notes[20_000:])
    np.testing.assert_array_equal(np.concatenate([head, tail]), toy_model.stream().feed(notes))


@pytest.mark.parametrize(
    ("change", "ports"),
    [
        (lambda m: replace(m, frames_per_step=16), "logits, x"),
        (lambda m: replace(m, states=m.states[:1]), "c_mean, s_mean"),
        (lambda m: replace(m, states=(State("stem", 4, 40, 0), m.states[1])), "s_stem"),
        (lambda m: replace(m, states=(State("stem", 3, 20, 0), m.states[1])), "c_stem, s_stem"),
        (lambda m: replace(m, states=(*m.states, State("more", 2, 2, 0))), "c_more, s_more"),
    ],
)
def test_network_with_other_shapes_than_the_manifest_is_refused(tmp_path, toy_model, change, ports):
    manifest = toy_model.manifest
    tmp_path.joinpath(MODEL_FILE).write_bytes(toy_model.folder.joinpath(MODEL_FILE).read_bytes())
    write_manifest(replace(manifest, model=change(manifest.model)), tmp_path / MANIFEST_FILE)
    with pytest.raises(ModelError, match=f"disagree on {ports}; export"):
        load_model(tmp_path)


def test_file_that_onnxruntime_cannot_load_is_refused(tmp_path, toy_model):
    content = b"not a network"
    tmp_path.joinpath(MODEL_FILE).write_bytes(content)
    model = replace(toy_model.manifest.model, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    write_manifest(replace(toy_model.manifest, model=model), tmp_path / MANIFEST_FILE)
    with pytest.raises(ModelError, match="upgrade onnxruntime"):
        load_model(tmp_path)


def test_public_api_hears_the_notes(toy_folder, notes):
    model = kws.load_model(toy_folder)
    stream, detector = model.stream(), kws.Detector.for_model(model)
    heard = [d for block in np.array_split(notes, 50) for d in detector.feed(stream.feed(block))]
    assert [d.keyword for d in heard] == ["low note", "high note"] == list(model.keywords)
    assert all(start < d.time_s < start + 0.4 for d, start in zip(heard, (1.0, 2.5), strict=True))


@pytest.mark.train
def test_committed_toy_model_is_what_its_source_writes(toy_folder):
    onnx = pytest.importorskip("onnx")
    stored = onnx.load(str(toy_folder / MODEL_FILE))
    assert stored.graph == onnx.load_from_string(toy.model_bytes()).graph
