"""`kws bench`: CPU, memory and start-up of listening on this machine; or the speed of training."""

import argparse
import json
import os
from typing import Any

from kws.evaluate.bench import bench
from kws.model import load_model


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    found = _training(options) if options.training else bench(load_model(options.model), options.seconds)
    if options.json:
        print(json.dumps(found))
    elif options.training:
        _print_training(found)
    else:
        _print_listening(found)
    return 0


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


def _print_training(found: dict[str, Any]) -> None:
    machine, minutes = found["machine"], found["projected_minutes"]
    print(f"{found['recipe']} on {machine['device']}; {machine['cpu']}, {machine['cores']} cores")
    print(", ".join(f"{name} {number}" for name, number in found["versions"].items()))
    print("wall time, windows per second; minutes for the whole recipe:")
    for part, name in (("rendering", "rendered"), ("float", "float"), ("qat", "qat")):
        print(f"  {part:<10}{found[f'{name}_per_s']:8.0f} /s{minutes[part]:8.1f} min")
    print(f"  {'total':<10}{'':8}   {minutes['total']:8.1f} min, without decoding and validation")
