"""What a gate costs: the same recordings and noise, heard with and without it, at the same thresholds.

Before each recording the gate hears the background of it for a while, looped, and has closed when the word
comes, as at home: a gate that is still open would lose nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kws.audio import read_audio
from kws.evaluate.channels import room_noise
from kws.evaluate.curve import counted_threshold
from kws.evaluate.metrics import false_accepts
from kws.evaluate.playlist import Audio, EvaluationSettings, Playlist
from kws.evaluate.rejects import Plain, Trials, speaker_rates
from kws.evaluate.stream import Listener, Record
from kws.evaluate.tables import markdown
from kws.gate import STEP_MS, Gate, GateSettings
from kws.model import load_model
from kws.scores import Scores

ROOM_SECONDS = 120
"""Of the simulated room."""
SETTLED_SECONDS = 5.0
"""The last part of the background before each recording, in which the gate closes and the network listens."""


def gated_listener(model: str, gate: GateSettings, settings: EvaluationSettings) -> Listener:
    """The shipped pipeline behind a gate; scores of what was skipped are 0, as no score that is heard can be.

    Args:
        model: Folder of the INT8 model.
        gate: The gate's settings.
        settings: Their lead-in is the background that is looped.
    """
    loaded = load_model(model)
    rate_hz, hop = loaded.manifest.features.sample_rate_hz, loaded.manifest.score_hop_samples
    stream, door = loaded.stream(), Gate(gate, rate_hz)
    lead_in = max(1, round(settings.lead_in_seconds * rate_hz))
    # Whole steps, so that the grid of the network is that of the ungated recording.
    settled, learnt = (
        round(1000 * seconds / STEP_MS) * door.step_samples
        for seconds in (SETTLED_SECONDS, gate.background_seconds - 2.0)
    )
    silent = np.zeros((1, len(loaded.keywords)), np.float32)

    def listen(samples: Audio) -> Scores:
        background = np.tile(samples[:lead_in], -(-(learnt + settled) // lead_in))[-learnt - settled :]
        door.reset()
        door.feed(background[:learnt])  # open all the while; what the network hears so early does not matter
        parts: list[Scores] = []
        for skipped, passed in door.feed(np.concatenate((background[learnt:], samples))):
            parts += [np.repeat(silent, skipped // hop, axis=0), stream.feed(passed)]
        parts.append(stream.flush() if door.is_open else silent[:0])
        stream.reset()
        heard = np.concatenate(parts)[settled // hop :]
        missing = max(0, len(samples) // hop - len(heard))
        return np.concatenate((heard, np.repeat(silent, missing, axis=0)))

    return listen


def gate_costs(
    without: Record, gated: Record, keywords: Sequence[str], settings: EvaluationSettings
) -> Plain:
    """What differs, at the thresholds that the model has without a gate.

    Returns:
        ``misses``: a row for each channel and condition: false reject rates ``without`` and ``gated`` and
        their ``difference``, averaged over the keywords and by keyword, and how many ``trials`` only one of
        them heard (``lost``, ``gained``). ``false_accepts``: of each keyword, both ways. ``skipped``: share
        of the ambient audio that the model did not hear, by kind and in all.
    """
    hours = sum(without.ambient_seconds.values()) / 3600
    peaks = {k: [p.score for p in without.peaks if p.keyword == k] for k in keywords}
    thresholds = {k: counted_threshold(peaks[k], hours, settings.calibrated_at) for k in keywords}
    trials, gated_trials = (Trials(record.trials, keywords) for record in (without, gated))
    return {
        "misses": [
            _misses(trials, gated_trials, thresholds, channel, condition)
            for channel in trials.channels()
            for condition in trials.conditions(channel)
        ],
        "false_accepts": {
            k: {
                "without": false_accepts(peaks[k], thresholds[k]),
                "gated": false_accepts([p.score for p in gated.peaks if p.keyword == k], thresholds[k]),
            }
            for k in keywords
        },
        "skipped": {
            "all": sum(gated.skipped_seconds.values()) / (3600 * hours),
            **{k: gated.skipped_seconds[k] / s for k, s in sorted(gated.ambient_seconds.items())},
        },
    }


def _misses(
    trials: Trials, gated: Trials, thresholds: Mapping[str, float], channel: str, condition: str
) -> Plain:
    lost = gained = played = 0
    rates = {}
    for keyword, threshold in thresholds.items():
        pair = trials.of(keyword, condition, channel), gated.of(keyword, condition, channel)
        if not pair[0]:
            continue
        before, after = (np.array([t.score for t in heard]) >= np.float32(threshold) for heard in pair)
        played += len(before)
        lost += int(np.count_nonzero(before & ~after))
        gained += int(np.count_nonzero(after & ~before))
        rates[keyword] = [float(speaker_rates(heard, threshold).mean()) for heard in pair]
    mean = np.mean(list(rates.values()), axis=0).tolist()
    return {
        "channel": channel or "as recorded",
        "condition": condition,
        "trials": played,
        "lost": lost,
        "gained": gained,
        **_both_ways(*mean),
        "keywords": {keyword: _both_ways(*pair) for keyword, pair in rates.items()},
    }


def _both_ways(without: float, gated: float) -> Plain:
    return {"without": without, "gated": gated, "difference": gated - without}


def skipped_backgrounds(playlist: Playlist, settings: EvaluationSettings, sample_rate_hz: int) -> Plain:
    """Share that the gate alone skips of each noise recording of the playlist, and of a simulated quiet room.

    Counted from when it knows the background on.
    """
    tracks = {c.path.stem: read_audio(c.path, sample_rate_hz) for c in playlist.noise if c.kind == "noise"}
    name = f"simulated room, {settings.channels.room_dbfs:g} dBFS"
    tracks[name] = room_noise(settings.channels, sample_rate_hz, ROOM_SECONDS * sample_rate_hz)
    learnt = round(settings.gate.background_seconds * sample_rate_hz)
    shares = {}
    for name, track in tracks.items():
        passages = Gate(settings.gate, sample_rate_hz).feed(track)
        passed = sum(len(passage.samples) for passage in passages)
        shares[name] = (len(track) - passed) / max(1, len(track) - learnt)
    return shares


def gate_tables(costs: Plain) -> str:
    """Markdown: misses by condition, false accepts by keyword, and what was skipped."""
    rows = [["through", "noise", "trials", "FRR without", "with the gate", "difference", "lost", "gained"]]
    for row in costs["misses"]:
        rates = [f"{100 * row[name]:.2f} %" for name in ("without", "gated")]
        difference = f"{100 * row['difference']:+.2f}"
        counts = [str(row[name]) for name in ("lost", "gained")]
        rows.append([row["channel"], row["condition"], str(row["trials"]), *rates, difference, *counts])
    accepts = [["keyword", "false accepts without", "with the gate"]]
    for keyword, counted in costs["false_accepts"].items():
        accepts.append([keyword, str(counted["without"]), str(counted["gated"])])
    skipped = [["audio without keywords", "skipped"]]
    skipped += [[kind, f"{100 * share:.1f} %"] for kind, share in costs["skipped"].items()]
    return "\n\n".join(markdown(table) for table in (rows, accepts, skipped))
