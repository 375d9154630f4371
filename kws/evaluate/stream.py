"""Plays recordings through the real streaming pipeline and notes what it heard.

A positive is played alone, with faint noise or real noise around it, and through other channels if wanted;
ambient audio is played as it is. Only the peaks of the score are kept, so that any threshold can be judged
afterwards.
"""

import sys
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from kws.audio import read_audio
from kws.corpus import Clip, keyword_of
from kws.errors import AudioError
from kws.evaluate.channels import Channel
from kws.evaluate.playlist import Audio, EvaluationSettings, Mixer, Playlist, find_word
from kws.manifest import Manifest
from kws.model import load_model
from kws.scores import PEAK_DISTANCE_SECONDS, Scores, peaks
from kws.workers import workers

CLEAN = "clean"
"""Name of the condition without added noise; the others are called "10 dB" and so on."""

Listener = Callable[[Audio], Scores]
"""Hears one whole stream from silence on: samples (n,) -> scores (steps, keywords)."""


@dataclass(frozen=True)
class Trial:
    """One spoken keyword, played once."""

    clip: Clip
    keyword: str
    condition: str
    score: float
    """Highest peak in the hit window; 0 without one."""
    window: Scores
    """The keyword's scores in the hit window, (rows,)."""
    window_start_s: float
    """Time of the first of them, relative to the end of the word."""
    row_seconds: float
    """Time between two of them."""
    channel: str = ""
    """Through which of `kws.evaluate.channels` it came; empty for the recording as it is."""

    @property
    def speaker(self) -> str:
        """Who speaks; a recording of an unknown speaker is a speaker of its own."""
        return f"{self.clip.source}/{self.clip.speaker or self.recording}"

    @property
    def recording(self) -> str:
        """Copies of one recording share this name."""
        return f"{self.clip.source}/{self.clip.recording or self.clip.path.name}"

    def latency_s(self, threshold: float) -> float | None:
        """From the end of the word to the detection, negative when that came before it; None if missed."""
        if self.score < np.float32(threshold):
            return None
        first = int(np.argmax(self.window >= np.float32(threshold)))
        return self.window_start_s + first * self.row_seconds


@dataclass(frozen=True)
class AmbientPeak:
    """A moment of ambient audio at which a keyword's score was a local maximum."""

    clip: Clip
    keyword: str
    time_s: float
    """Since the start of that clip."""
    score: float


@dataclass(frozen=True)
class Phrase:
    """A word or phrase that is no keyword, played once."""

    clip: Clip
    scores: dict[str, float]
    """Highest score of each keyword."""


@dataclass
class Record:
    """Everything one model heard."""

    trials: list[Trial] = field(default_factory=list)
    phrases: list[Phrase] = field(default_factory=list)
    peaks: list[AmbientPeak] = field(default_factory=list)
    ambient_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Audio played, by kind."""
    skipped_seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Of that, what a gate kept from the network."""
    unreadable: list[str] = field(default_factory=list)
    """What was wrong with each clip that could not be played."""

    def add(self, other: "Record") -> None:
        """Append what another player heard."""
        self.trials += other.trials
        self.phrases += other.phrases
        self.peaks += other.peaks
        self.unreadable += other.unreadable
        for mine, others in (
            (self.ambient_seconds, other.ambient_seconds),
            (self.skipped_seconds, other.skipped_seconds),
        ):
            for kind, seconds in others.items():
                mine[kind] += seconds


class Player:
    """Plays clips to one listener and notes its peaks."""

    def __init__(
        self,
        listen: Listener,
        manifest: Manifest,
        keywords: Sequence[str],
        mixer: Mixer,
        channels: Sequence[Channel] = (),
    ) -> None:
        self._listen, self._manifest, self._mixer = listen, manifest, mixer
        self._keywords, self._channels = keywords, channels
        self._settings = mixer.settings
        self._rate_hz = manifest.features.sample_rate_hz
        self._hop_s = manifest.score_hop_samples / self._rate_hz

    def positive(self, clip: Clip) -> Record:
        """Play a clip that holds a keyword, in every condition and through every channel."""
        samples = read_audio(clip.path, self._rate_hz)
        word = find_word(clip, samples, self._rate_hz)
        # The name seeds the noise, so that each clip keeps its noise when others come or go.
        seed = zlib.crc32(f"{clip.source}/{clip.path.name}".encode())
        record = Record()
        for snr_db in (None, *self._settings.snr_db):
            for mix in range(1 if snr_db is None else self._settings.mixes):
                track = self._mixer.track(samples, word, snr_db, seed + mix)
                record.trials.append(self._trial(clip, condition_name(snr_db), track, word))
        for channel in self._channels:
            voice = channel.voice(samples, seed)
            for snr_db in (None, *self._settings.channels.snr_db):
                track = self._mixer.track(voice, word, snr_db, seed)
                heard = channel.heard(track, self._mixer.place(word))
                record.trials.append(self._trial(clip, condition_name(snr_db), heard, word, channel.name))
        return record

    def phrase(self, clip: Clip) -> Record:
        """Play a word or phrase that is no keyword."""
        samples = read_audio(clip.path, self._rate_hz)
        highest = self._listen(self._mixer.track(samples, (0, len(samples)), None, 0)).max(axis=0)
        return Record(
            phrases=[Phrase(clip, dict(zip(self._manifest.keywords, highest.tolist(), strict=True)))]
        )

    def ambient(self, clips: list[Clip]) -> Record:
        """Play clips without a keyword as one stream."""
        record = Record()
        starts_s, parts, end_s = [], [], 0.0
        for clip in clips:
            try:
                parts.append(read_audio(clip.path, self._rate_hz))
            except AudioError as error:
                record.unreadable.append(str(error))
                parts.append(np.zeros(0, np.float32))
            starts_s.append(end_s)
            seconds = len(parts[-1]) / self._rate_hz
            end_s += seconds
            record.ambient_seconds[clip.kind] += seconds
        scores = self._listen(np.concatenate(parts))
        unheard = np.count_nonzero(~scores.any(axis=1))  # a sigmoid is never 0
        record.skipped_seconds[clips[0].kind] += float(unheard * self._hop_s)  # a stream is of one kind
        for keyword, found in self._peaks(scores).items():
            for time_s, score in found:
                place = max(0, int(np.searchsorted(starts_s, time_s)) - 1)
                record.peaks.append(AmbientPeak(clips[place], keyword, time_s - starts_s[place], score))
        return record

    def _trial(
        self, clip: Clip, condition: str, track: Audio, word: tuple[int, int], channel: str = ""
    ) -> Trial:
        keyword = keyword_of(clip.label, self._keywords)
        assert keyword is not None  # noqa: S101 (the playlist holds only clips that say one)
        scores = self._listen(track)
        start_s, end_s = (self._settings.lead_in_seconds + sample / self._rate_hz for sample in word)
        last_s = end_s + self._settings.hit_window_seconds
        hits = [score for time_s, score in self._peaks(scores)[keyword] if start_s <= time_s <= last_s]
        times_s = self._manifest.score_time_s(0) + np.arange(len(scores)) * self._hop_s
        rows = np.flatnonzero((times_s >= start_s) & (times_s <= last_s))
        return Trial(
            clip=clip,
            keyword=keyword,
            condition=condition,
            score=max(hits, default=0.0),
            window=scores[rows, self._manifest.keywords.index(keyword)],
            window_start_s=float(times_s[rows[0]] - end_s),
            row_seconds=self._hop_s,
            channel=channel,
        )

    def _peaks(self, scores: Scores) -> dict[str, list[tuple[float, float]]]:
        """Per keyword: (seconds since the start of the stream, score) of each peak."""
        distance = self._manifest.score_rows(PEAK_DISTANCE_SECONDS)
        columns = peaks(scores, min_distance_rows=distance)
        return {
            keyword: [(self._manifest.score_time_s(row), score) for row, score in column]
            for keyword, column in zip(self._manifest.keywords, columns, strict=True)
        }


def condition_name(snr_db: float | None) -> str:
    """What tables call a noise level; None is no noise."""
    return CLEAN if snr_db is None else f"{snr_db:g} dB"


def int8_listener(model: str) -> Listener:
    """The shipped pipeline: the INT8 model in a folder, streaming."""
    stream = load_model(model).stream()

    def listen(samples: Audio) -> Scores:
        return np.concatenate((stream.feed(samples), stream.flush()))

    return listen


def play(
    playlist: Playlist,
    open_listener: Callable[[], Listener],
    manifest: Manifest,
    settings: EvaluationSettings,
    *,
    jobs: int = 1,
    channels: Sequence[Channel] = (),
) -> Record:
    """Play everything and note what one model heard.

    Args:
        playlist: What to play.
        open_listener: Makes the listener; called once in each worker, so it must survive pickling.
        manifest: Of the model that listens.
        settings: The scoring rules.
        jobs: Worker processes; 1 works in this process.
        channels: The keywords are also played through these.
    """
    tasks: list[Task] = [
        *(("ambient", stream) for stream in playlist.ambient),
        *(("positive", [clip]) for clip in playlist.positives),
        *(("phrase", [clip]) for clip in playlist.phrases),
    ]
    make_player = partial(_make_player, open_listener, manifest, playlist, settings, channels)
    total = Record()
    for done, record in enumerate(_map(tasks, make_player, jobs), start=1):
        total.add(record)
        _progress(done, len(tasks))
    return total


Task = tuple[str, list[Clip]]
_player: Player | None = None
"""Of this worker process."""


def _make_player(
    open_listener: Callable[[], Listener],
    manifest: Manifest,
    playlist: Playlist,
    settings: EvaluationSettings,
    channels: Sequence[Channel],
) -> Player:
    mixer = Mixer(playlist.noise, manifest.features.sample_rate_hz, settings)
    return Player(open_listener(), manifest, playlist.keywords, mixer, channels)


def _map(tasks: list[Task], make_player: Callable[[], Player], jobs: int) -> Iterator[Record]:
    if jobs == 1:
        player = make_player()
        yield from (_play_one(player, task) for task in tasks)
        return
    with workers(jobs, partial(_start_worker, make_player)) as pool:
        yield from pool.map(_work, tasks, chunksize=4)


def _start_worker(make_player: Callable[[], Player]) -> None:
    global _player  # noqa: PLW0603 (the only state of a worker process)
    _player = make_player()


def _work(task: Task) -> Record:
    assert _player is not None  # noqa: S101 (the pool's initializer ran before)
    return _play_one(_player, task)


def _play_one(player: Player, task: Task) -> Record:
    kind, clips = task
    if kind == "ambient":
        return player.ambient(clips)
    try:
        return player.positive(clips[0]) if kind == "positive" else player.phrase(clips[0])
    except AudioError as error:
        return Record(unreadable=[str(error)])


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        sys.stderr.write(f"\rplayed {done} of {total}{end}")
        sys.stderr.flush()
