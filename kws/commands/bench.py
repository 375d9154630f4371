"""`kws bench`: CPU, memory and start-up of listening on this machine."""

import argparse
import json

from kws.evaluate.bench import bench
from kws.model import load_model


def run(options: argparse.Namespace) -> int:
    """Measure and print."""
    found = bench(load_model(options.model), options.seconds)
    if options.json:
        print(json.dumps(found))
        return 0
    step, versions, machine = found["step_ms"], found["versions"], found["machine"]
    print(f"{found['model']} on {machine['cpu']}, {machine['cores']} cores, {machine['system']}")
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    print(
        f"chunks of {found['chunk_ms']} ms, {found['threads']} thread, tight loop, CPU per second of audio:"
    )
    for stage in ("features", "model", "detector", "total"):
        print(f"  {stage:<9}{found[f'{stage}_ms_per_s']:8.3f} ms")
    print(f"time per chunk: p50 {step['p50']:.3f} ms, p95 {step['p95']:.3f} ms, p99 {step['p99']:.3f} ms")
    print(f"memory {found['rss_mb']:.0f} MB, import to first score {found['cold_start_ms']:.0f} ms of CPU")
    return 0
