"""Audio sources: files of many kinds, and a PortAudio that misbehaves on demand."""

import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from kws.audio import file_blocks, level_dbfs, paced, read_audio
from kws.errors import AudioError
from kws.microphone import Microphone, MicrophoneSettings
from kws.portaudio import devices

RATE_HZ = 16_000


def tone(rate_hz, seconds=1.0, hz=440):
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(rate_hz * seconds)) / rate_hz)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.opus", "a.mp3"])
def test_file_of_any_format_becomes_mono_float32(tmp_path, name):
    form = {"format": "OGG", "subtype": "OPUS"} if name.endswith("opus") else {}
    soundfile.write(tmp_path / name, tone(RATE_HZ), RATE_HZ, **form)
    samples = read_audio(tmp_path / name, RATE_HZ)
    assert (samples.dtype, samples.ndim) == (np.float32, 1)
    assert len(samples) == pytest.approx(RATE_HZ, abs=2500)  # lossy formats pad
    assert level_dbfs(samples[4000:12_000]) == pytest.approx(-9.03, abs=0.3)


def test_sixteen_bit_samples_are_exact(tmp_path):
    stored = np.random.default_rng(0).integers(-32768, 32768, 5000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", stored, RATE_HZ)
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", RATE_HZ) * 32768, stored)


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_other_rate_is_resampled(tmp_path, rate_hz):
    soundfile.write(tmp_path / "a.wav", tone(rate_hz), rate_hz)
    samples = read_audio(tmp_path / "a.wav", RATE_HZ)
    assert len(samples) == pytest.approx(RATE_HZ, abs=1)
    np.testing.assert_allclose(samples[2000:-2000], tone(RATE_HZ)[2000 : len(samples) - 2000], atol=2e-3)


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 44_100])
def test_block_size_changes_nothing(tmp_path, rate_hz):
    soundfile.write(tmp_path / "a.wav", tone(rate_hz), rate_hz)
    whole = read_audio(tmp_path / "a.wav", RATE_HZ)
    for block_ms in (7, 80, 333):
        blocks = list(file_blocks(tmp_path / "a.wav", RATE_HZ, block_ms))
        np.testing.assert_array_equal(np.concatenate(blocks), whole)


def test_first_channel_is_chosen(tmp_path):
    left = tone(RATE_HZ)
    soundfile.write(tmp_path / "a.wav", np.stack([left, -left, 0 * left], axis=1), RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav", RATE_HZ), left, atol=1e-7)


def test_bad_file_gives_one_sentence(tmp_path):
    soundfile.write(tmp_path / "good.flac", np.random.default_rng(0).standard_normal(9000) * 0.1, RATE_HZ)
    content = (tmp_path / "good.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.wav").write_text("not audio at all")
    (tmp_path / "nothing.wav").touch()
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "short.wav", np.zeros(0), RATE_HZ)
    for name, value in (("nan.wav", np.nan), ("inf.wav", -np.inf)):
        soundfile.write(tmp_path / name, np.array([0, value, 0]), RATE_HZ, subtype="FLOAT")
    expected = {
        "missing.wav": "there is no audio file .*; check the path",
        "folder.wav": "there is no audio file",
        "nothing.wav": "is an empty file; record it again",
        "short.wav": "holds no audio; record it again",
        "text.wav": "cannot read .* recognised.*; convert it",
        "cut.flac": "cannot read .*; convert it",
        "nan.wav": "holds NaN or infinite samples; export it again",
        "inf.wav": "holds NaN or infinite samples; export it again",
    }
    for name, message in expected.items():
        with pytest.raises(AudioError, match=message) as caught:
            read_audio(tmp_path / name, RATE_HZ)
        assert str(caught.value).count(str(tmp_path / name)) == 1
        assert "\n" not in str(caught.value)


def test_level_is_relative_to_full_scale():
    assert level_dbfs(np.full(100, -32768, np.int16)) == 0
    assert level_dbfs(np.full(100, 0.1, np.float32)) == pytest.approx(-20)
    assert level_dbfs(np.zeros(100, np.int16)) == level_dbfs(np.zeros(0, np.int16)) == -np.inf


def test_paced_blocks_come_no_faster_than_a_microphone_gives_them():
    blocks = [np.zeros(800, np.int16)] * 4
    start = time.monotonic()
    assert len(list(paced(blocks, RATE_HZ))) == 4
    assert time.monotonic() - start >= 4 * 800 / RATE_HZ


class FakePortAudio:
    """What `Microphone` uses of the sounddevice module, with one input that obeys `rates` and `channels`."""

    _libname = "libc.so.6"

    class PortAudioError(Exception):
        """Message and error code, as sounddevice raises it."""

        def __str__(self):
            return f"{self.args[0]} [PaErrorCode {self.args[1]}]"

    def __init__(
        self, *, rates=(RATE_HZ,), channels=(1,), open_error=None, read_error=None, native_hz=48_000
    ):
        self.rates, self.channels, self.native_hz = rates, channels, native_hz
        self.open_error, self.read_error, self.is_open = open_error, read_error, False
        self.default = SimpleNamespace(device=(0, 1))

    def query_devices(self, device=None, kind=None):
        info = {
            "name": "Kitchen",
            "index": 0,
            "max_input_channels": max(self.channels),
            "default_samplerate": float(self.native_hz),
        }
        if kind is None:
            return [info, info | {"name": "Loudspeaker", "max_input_channels": 0}]
        if device not in (None, 0, "kit"):
            raise ValueError(f"No input device matching {device!r}")
        return info

    def InputStream(self, rate_hz, *, device, channels, dtype, latency):
        assert (device, dtype) == (0, "int16")
        assert latency >= 0.5  # what a reader may be late
        if self.open_error:
            raise self.open_error
        if rate_hz not in self.rates:
            raise self.PortAudioError("Invalid sample rate", -9997)
        if channels not in self.channels:
            raise self.PortAudioError("Invalid number of channels", -9998)
        self.rate_hz, self.form, self.is_open = rate_hz, (rate_hz, channels), True
        return self

    def start(self):
        self.position, self.read_available = 0, 48_000

    def read(self, count):
        if self.read_error:
            raise self.read_error
        at = (self.position + np.arange(count)) / self.rate_hz
        self.position += count
        left = (10_000 * np.sin(2 * np.pi * 440 * at)).astype(np.int16)
        return np.stack([left] + [np.zeros_like(left)] * (self.form[1] - 1), axis=1), False

    def close(self):
        self.is_open = False


@pytest.fixture
def portaudio(monkeypatch):
    def install(**behaviour):
        fake = FakePortAudio(**behaviour)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return install


@pytest.mark.parametrize(
    ("behaviour", "form"),
    [
        ({}, (RATE_HZ, 1)),
        ({"channels": (2,)}, (RATE_HZ, 2)),
        ({"rates": (48_000,)}, (48_000, 1)),
        ({"rates": (48_000,), "channels": (2, 8)}, (48_000, 8)),
    ],
)
def test_microphone_takes_the_first_form_that_the_device_knows(portaudio, behaviour, form):
    fake = portaudio(**behaviour)
    with Microphone(MicrophoneSettings("kit"), RATE_HZ) as microphone:
        blocks = microphone.blocks()
        samples = np.concatenate([next(blocks) for _ in range(10)])
        assert microphone.name == "Kitchen"
        assert fake.is_open
    assert not fake.is_open
    assert fake.form == form
    assert samples.dtype == np.int16
    assert 10 * 1280 - 700 <= len(samples) <= 10 * 1280  # a resampler keeps some back
    assert level_dbfs(samples[2000:]) == pytest.approx(-13.3, abs=0.1)


def test_microphone_problem_gives_one_sentence(portaudio):
    error = FakePortAudio.PortAudioError
    portaudio()
    with pytest.raises(AudioError, match="no microphone 'attic'; plug one in, or choose one of: kws devices"):
        Microphone(MicrophoneSettings("attic"), RATE_HZ)
    portaudio(open_error=error("Device unavailable", -9985))
    with pytest.raises(AudioError, match=r"'Kitchen' \(another program uses it\); free it"):
        Microphone(MicrophoneSettings(), RATE_HZ)
    portaudio(rates=())
    with pytest.raises(AudioError, match=r"'Kitchen' \(Invalid sample rate \["):
        Microphone(MicrophoneSettings(), RATE_HZ)
    portaudio(read_error=error("Unanticipated host error", -9999, (0, -5, "Input/output error")))
    with (
        Microphone(MicrophoneSettings(), RATE_HZ) as microphone,
        pytest.raises(AudioError, match=r"'Kitchen' stopped \(.*plug it in again"),
    ):
        next(microphone.blocks())


def test_missing_portaudio_names_its_package(monkeypatch):
    class Missing:
        def find_spec(self, name, *_):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(AudioError, match="run: sudo apt install libportaudio2"):
        devices()


def test_devices_lists_inputs_only(portaudio):
    portaudio(channels=(1, 2))
    (device,) = devices()
    assert (device.index, device.name, device.channels, device.default_rate_hz) == (0, "Kitchen", 2, 48_000)
    assert device.is_default
