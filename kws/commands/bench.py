"""`kws bench`: CPU, memory and start-up of listening here; many microphones; or the speed of training."""

import argparse
import json
import os
from typing import Any

from kws.evaluate.bench import bench
from kws.model import load_model


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    if options.training:
        found, show = _training(options), _print_training
    elif options.microphone:
        found, show = _microphone(options), _print_microphone
    elif options.clients:
        found, show = _clients(options), _print_clients
    else:
        found, show = bench(load_model(options.model), options.seconds), _print_listening
    if options.json:
        print(json.dumps(found))
    else:
        show(found)
    return 0


def _microphone(options: argparse.Namespace) -> dict[str, Any]:
    from kws.evaluate.microphone_bench import bench_microphone  # noqa: PLC0415 (only this one needs it)

    return bench_microphone(load_model(options.model), options.seconds, options.peer, options.config)


def _clients(options: argparse.Namespace) -> dict[str, Any]:
    from kws.evaluate.clients_bench import bench_clients  # noqa: PLC0415 (only this one needs it)

    return bench_clients(load_model(options.model), options.clients, options.seconds)


def _training(options: argparse.Namespace) -> dict[str, Any]:
    from kws.train.bench import bench_recipe  # noqa: PLC0415 (an extra; listening needs it not)

    return bench_recipe(options.training, os.cpu_count() or 1, options.seconds / 3)


def _print_listening(found: dict[str, Any]) -> None:
    step, versions, machine = found["step_ms"], found["versions"], found["machine"]
    print(f"{found['model']} on {machine['cpu']}, {machine['cores']} cores, {machine['system']}")
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    print(
        f"chunks of {found['chunk_ms']} ms, {found['threads']} thread, tight loop, CPU per second of audio:"
    )
    for stage in ("features", "model", "detector", "total", "gated"):
        note = ", in a quiet room, behind the gate" if stage == "gated" else ""
        print(f"  {stage:<9}{found[f'{stage}_ms_per_s']:8.3f} ms{note}")
    print(f"time per chunk: p50 {step['p50']:.3f} ms, p95 {step['p95']:.3f} ms, p99 {step['p99']:.3f} ms")
    print(f"memory {found['rss_mb']:.0f} MB, import to first score {found['cold_start_ms']:.0f} ms of CPU")


def _print_microphone(found: dict[str, Any]) -> None:
    machine, delay, gate = found["machine"], found["end_of_word_to_event_ms"], found["gate"]
    print(f"{found['model']} on {machine['cpu']}, {machine['cores']} cores, {machine['system']}")
    print(", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    print(f"{found['seconds']} s at a virtual microphone, blocks of {found['block_ms']} ms, all included:")
    for name, cpu in found["cpu_ms_per_s"].items():
        memory, threads = found["memory_mb"][name], found["threads"][name]
        print(
            f"  {name:<6}CPU {cpu['quiet']:.2f} ms/s in a quiet room, {cpu['speech']:.2f} ms/s in speech; "
            f"memory {memory['start']:.1f} -> {memory['end']:.1f} MB, "
            f"threads {threads['start']} -> {threads['end']}"
        )
    if found["cpu_ratio"] is not None:
        ratio = found["cpu_ratio"]
        print(f"  kws / peer: {ratio['quiet']:.2f} in a quiet room, {ratio['speech']:.2f} in speech")
    print(f"{found['words']} words spoken, {found['missed']} missed")
    if delay["p50"] is not None:
        p50, p95, most = (delay[name] for name in ("p50", "p95", "p100"))
        print(f"end of word to event: p50 {p50:.0f} ms, p95 {p95:.0f} ms, longest {most:.0f} ms")
    print(
        f"{found['wakeups_per_s'] or 0:.0f} wake-ups/s, lost {found['lost_ms']:.0f} ms, "
        f"gate open {100 * (gate['duty_cycle'] or 0):.0f} % of the time"
    )


def _print_clients(found: dict[str, Any]) -> None:
    machine, delay = found["machine"], found["latency_ms"]
    print(f"{found['model']} on {machine['cpu']}, {machine['cores']} cores, {machine['system']}")
    print(", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    print(f"{found['clients']} clients of kws wyoming for {found['seconds']} s, all of them in sound:")
    print(
        f"CPU {found['cpu_ms_per_s']:.2f} ms/s for each, {100 * found['core_share']:.0f} % of a core in all: "
        f"a core carries {found['clients_per_core']}"
    )
    print(
        "end of a chunk to its answer: "
        + ", ".join(f"{'longest' if p == 'p100' else p} {ms:.0f} ms" for p, ms in delay.items())
    )
    print(f"memory {found['memory_mb']:.0f} MB")


def _print_training(found: dict[str, Any]) -> None:
    machine, minutes = found["machine"], found["projected_minutes"]
    print(f"{found['recipe']} on {machine['device']}; {machine['cpu']}, {machine['cores']} cores")
    print(", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    print("wall time, windows per second; minutes for the whole recipe:")
    for part, name in (("rendering", "rendered"), ("float", "float"), ("qat", "qat")):
        print(f"  {part:<10}{found[f'{name}_per_s']:8.0f} /s{minutes[part]:8.1f} min")
    print(f"  {'total':<10}{'':8}   {minutes['total']:8.1f} min, without decoding and validation")
