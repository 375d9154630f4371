"""`kws evaluate`: false rejects and false accepts of a model on a corpus, float beside INT8 if wanted."""

import argparse
import dataclasses
import datetime
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

import kws
from kws import config
from kws.commands import evaluate_clips
from kws.errors import ConfigError, MissingExtra, ModelError
from kws.evaluate.card import SHIPPED, results, update_model
from kws.evaluate.channels import make_channels, quiet_channels
from kws.evaluate.gating import gate_costs, gate_tables, gated_listener, skipped_backgrounds
from kws.evaluate.paired import compare
from kws.evaluate.playlist import Audio, EvaluationSettings, Playlist, make_playlist, read_clips
from kws.evaluate.plot import plot_trade_off
from kws.evaluate.rejects import Plain
from kws.evaluate.report import commit, headline_condition, summarise, trade_off_curves
from kws.evaluate.stream import Listener, int8_listener, play
from kws.evaluate.tables import full_report, model_facts, paired_table
from kws.features import LogMel
from kws.files import write_text
from kws.manifest import FLOAT_FILE, Manifest, find_model, read_manifest
from kws.model import AFTERMATH_SECONDS
from kws.scores import Scores, scores_of


def run(options: argparse.Namespace) -> int:
    """Play the corpus to each network, then print, write and update what was asked for."""
    folder = find_model(options.model)
    manifest = read_manifest(folder)
    settings = _settings(options)
    if manifest.is_classifier and options.gate:
        raise ConfigError(f"{manifest.name} decides on whole clips, which no gate stands before; omit --gate")
    if manifest.is_classifier:
        return evaluate_clips.run(options, folder, manifest, settings, float_logits)
    if options.against:
        return _against(options, folder, manifest, settings)
    if options.gate:
        return _gate(options, folder, manifest, settings)
    playlist = _playlist(options, manifest.keywords, settings)
    networks: dict[str, Callable[[], Listener]] = {SHIPPED: partial(int8_listener, str(folder))}
    if options.float:
        networks["float"] = partial(float_listener, folder)
    rate_hz = manifest.features.sample_rate_hz
    channels = make_channels(settings.channels, rate_hz) if options.robustness else []
    summaries, curves = {}, {}
    for name, open_listener in networks.items():
        through = channels if name == SHIPPED else []
        record = play(playlist, open_listener, manifest, settings, jobs=options.jobs, channels=through)
        summaries[name] = summarise(record, manifest.keywords, settings)
        curves[name] = trade_off_curves(record, manifest.keywords, settings)
    report = _report(manifest, settings, summaries)
    if options.out:
        out: Path = options.out
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "results.json", json.dumps(report, indent=1) + "\n")
        write_text(out / "results.md", full_report(report))
        title = f"{manifest.name}, {headline_condition(settings)}, {settings.split} split"
        plot_trade_off(curves, out / "det.svg", title)
    if options.update:
        update_model(folder, report)
    print(json.dumps(report) if options.json else results(report))
    return 0


def _against(
    options: argparse.Namespace, folder: Path, manifest: Manifest, settings: EvaluationSettings
) -> int:
    """Play the same to two models; their keywords in common are judged, and nothing is written."""
    if options.update or options.float or options.robustness or options.gate or options.out:
        raise ConfigError(
            "--against only prints; leave --update, --float, --robustness, --gate and --out away"
        )
    other = find_model(options.against)
    keywords = [k for k in manifest.keywords if k in read_manifest(other).keywords]
    if not keywords:
        raise ConfigError(f"{folder.name} and {other.name} have no keyword in common; compare others")
    playlist = _playlist(options, keywords, settings)
    heard, heard_by_other = (
        play(playlist, partial(int8_listener, str(m)), read_manifest(m), settings, jobs=options.jobs)
        for m in (folder, other)
    )
    rows = compare(heard, heard_by_other, keywords, settings)
    names = read_manifest(folder).name, read_manifest(other).name
    if names[0] == names[1]:
        names = str(folder), str(other)
    print(json.dumps(rows) if options.json else paired_table(rows, *names))
    return 0


def _gate(options: argparse.Namespace, folder: Path, manifest: Manifest, settings: EvaluationSettings) -> int:
    """Play the same with and without a gate and show what it costs; the model is left as it is."""
    if options.update or options.float:
        raise ConfigError("--gate measures the gate; leave --update and --float away")
    if not settings.gate.enabled:
        raise ConfigError("gate.enabled is false; set it to true to measure the gate")
    playlist = _playlist(options, manifest.keywords, settings)
    playlist = dataclasses.replace(playlist, phrases=[])
    make = make_channels if options.robustness else quiet_channels
    channels = make(settings.channels, manifest.features.sample_rate_hz)
    without, gated = (
        play(playlist, listener, manifest, settings, jobs=options.jobs, channels=channels)
        for listener in (
            partial(int8_listener, str(folder)),
            partial(gated_listener, str(folder), settings.gate, settings),
        )
    )
    costs = gate_costs(without, gated, manifest.keywords, settings)
    costs["skipped"] |= skipped_backgrounds(playlist, settings, manifest.features.sample_rate_hz)
    report = {**_report(manifest, settings, {}), "gate": costs}
    table = gate_tables(costs)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_text(options.out / "gate.json", json.dumps(report, indent=1) + "\n")
        write_text(options.out / "gate.md", table + "\n")
    print(json.dumps(report) if options.json else table)
    return 0


def float_listener(folder: Path) -> Listener:
    """The float network in a model folder as a listener."""
    logits, steps = float_logits(folder), read_manifest(folder).detector.smoothing_steps
    return lambda samples: scores_of(logits(samples), steps)


def float_logits(folder: Path) -> Callable[[Audio], Scores]:
    """The float network in a model folder, samples to logits (T, K), on the same frames as its INT8 twin.

    Raises:
        MissingExtra: torch is not installed.
        ModelError: the folder holds no float checkpoint.
    """
    try:
        import torch  # noqa: PLC0415 (an extra, and seconds)
        from safetensors.torch import load_file  # noqa: PLC0415

        from kws.train.net import KeywordNet  # noqa: PLC0415
        from kws.train.recipe import NetworkSettings  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("torch", "train") from error
    path = folder / FLOAT_FILE
    if not path.is_file():
        raise ModelError(f"{folder} has no {FLOAT_FILE}; run `kws export` again, or leave --float out")
    torch.set_num_threads(1)
    manifest, weights = read_manifest(folder), load_file(path)
    channels, _, stem_kernel = weights["stem.conv.weight"].shape
    kernel = weights["blocks.0.conv.weight"].shape[2]
    net = KeywordNet(
        NetworkSettings(
            channels=channels,
            kernel=kernel,
            dilations=tuple(
                state.frames // (kernel - 1)
                for state in manifest.model.states
                if state.name.startswith("block")
            ),
            stem_kernel=stem_kernel,
            stride=manifest.model.frames_per_score,
        ),
        manifest.features.frame_size,
        len(manifest.keywords),
    )
    net.load_state_dict(weights)
    net.eval()
    features = LogMel(manifest.features, manifest.model.frames_per_step)
    settling_steps = -(-manifest.model.receptive_field_frames // manifest.model.frames_per_step)
    silence = np.zeros(
        (settling_steps * manifest.model.frames_per_step, manifest.features.frame_size), np.float32
    )

    def logits_of(samples: Audio) -> Scores:
        aftermath = np.zeros(round(AFTERMATH_SECONDS * manifest.features.sample_rate_hz), np.float32)
        frames = np.concatenate((silence, features.feed(np.concatenate((samples, aftermath)))))
        features.reset()
        with torch.inference_mode():
            logits: Scores = net(torch.from_numpy(frames.T[None]))[0].T.numpy()  # (steps, K)
        return logits[len(silence) // manifest.model.frames_per_score :]

    return logits_of


def _playlist(options: argparse.Namespace, keywords: Sequence[str], settings: EvaluationSettings) -> Playlist:
    return make_playlist(read_clips(options.data, keywords, settings), keywords, settings)


def _settings(options: argparse.Namespace) -> EvaluationSettings:
    """The scoring rules: the defaults or a file, with what the command line says on top."""
    settings = config.load(options.config, EvaluationSettings) if options.config else EvaluationSettings()
    changes = {
        "split": options.split,
        "fold": options.fold,
        "snr_db": None if options.snr is None else tuple(options.snr),
    }
    return dataclasses.replace(settings, **{k: v for k, v in changes.items() if v is not None})


def _report(manifest: Manifest, settings: EvaluationSettings, summaries: dict[str, Plain]) -> Plain:
    return {
        "model": model_facts(manifest),
        "kws": kws.__version__,
        "commit": commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "split": settings.split,
        "settings": config.dump(settings),
        "networks": summaries,
    }
