"""How fast this machine trains a recipe: windows a second, and what the whole recipe will take.

The sound is synthetic, so that no corpus is needed; the code is the code of training. Validation, of which
every corpus has another amount, and the decoding of a corpus, which is done once, are not measured.
"""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn

import kws
from kws import config
from kws.corpus import Clip
from kws.evaluate.report import commit
from kws.health import board_name
from kws.train.batches import Batches
from kws.train.learner import Learner, Plan
from kws.train.library import Library
from kws.train.net import KeywordNet
from kws.train.pool import BATCH_WINDOWS, Pool, render
from kws.train.processes import Processes, processes
from kws.train.qat import QuantNet
from kws.train.recipe import Recipe
from kws.train.teacher import Teacher

WINDOWS = 4096
"""In the pools that steps are measured with."""
WARM_UP_STEPS = 3
"""The first steps also plan and allocate."""
CLIP_SECONDS = {"keyword": 0.8, "speech": 6.0, "noise": 20.0}
CLIPS_OF_EACH = 8


def bench_recipe(path: Path, jobs: int, seconds: float) -> dict[str, Any]:
    """Measure rendering and both phases of the recipe at `path`, for about `seconds` each.

    Returns:
        Plain data. ``*_per_s`` are windows per second of wall time; ``projected_minutes`` is what all windows
        and steps of the recipe would take, by part and in ``total``.
    """
    recipe = config.load(path, Recipe)
    with processes() as everyone:
        return _bench(recipe, everyone, jobs, seconds)


def _bench(recipe: Recipe, everyone: Processes, jobs: int, seconds: float) -> dict[str, Any]:
    t, q = recipe.training, recipe.quantisation
    per_step = t.positives_per_batch + t.negatives_per_batch
    rendered_per_s = _rendering(recipe, everyone.device, jobs, seconds)
    pools = (_pool(recipe, True), _pool(recipe, False))
    teacher = Teacher(recipe, Batches(*pools, t, recipe.seed, everyone.device), everyone)
    net = KeywordNet(recipe.network, recipe.features.frame_size, len(recipe.keywords)).to(everyone.device)
    quant = QuantNet.from_float(net, weight_limit=q.largest_weight)
    quant.calibrate(teacher.calibration(BATCH_WINDOWS))
    steps_per_s = {
        "float": _training(teacher, net, Plan("float", 0, t.steps, t.learning_rate, t.weight_decay), seconds),
        "qat": _training(teacher, quant, Plan("qat", 0, q.steps, q.learning_rate, t.weight_decay), seconds),
    }
    minutes = {
        "rendering": (recipe.data.positives + recipe.data.negatives) / rendered_per_s / 60,
        "float": t.steps / steps_per_s["float"] / 60,
        "qat": q.steps / steps_per_s["qat"] / 60,
    }
    cuda = everyone.device.type == "cuda"
    return {
        "recipe": recipe.name,
        "rendered_per_s": rendered_per_s,
        "float_per_s": steps_per_s["float"] * per_step,
        "qat_per_s": steps_per_s["qat"] * per_step,
        "projected_minutes": minutes | {"total": sum(minutes.values())},
        "windows_per_step": per_step,
        "jobs": jobs,
        "versions": {"kws": kws.__version__, "commit": commit(), "torch": str(torch.__version__)},
        "machine": {
            "device": torch.cuda.get_device_name(everyone.device) if cuda else "cpu",
            "cpu": board_name(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
    }


def _rendering(recipe: Recipe, device: torch.device, jobs: int, seconds: float) -> float:
    """Windows rendered per second, once all `jobs` processes are at work."""
    share = recipe.data.positives / (recipe.data.positives + recipe.data.negatives)
    numbers = ((int((n + 1) * share) > int(n * share), n) for n in count())
    few = replace(recipe, augmentation=replace(recipe.augmentation, simulated_rooms=2))
    with tempfile.TemporaryDirectory() as scratch:
        library = Library(list(_clips(Path(scratch), recipe)), Path(scratch), recipe.features.sample_rate_hz)
        batches = render(library, few, numbers, cache=Path(scratch), device=device, jobs=jobs)
        for _ in islice(batches, jobs):
            pass
        return BATCH_WINDOWS * _rate(lambda: next(batches), seconds, device)


def _training(teacher: Teacher, net: nn.Module, plan: Plan, seconds: float) -> float:
    """Steps per second."""
    learner = Learner(net.train(), replace(plan, steps=10**6), teacher.recipe.training, teacher.everyone)
    for _ in range(WARM_UP_STEPS):
        teacher.teach(learner)
    return _rate(lambda: teacher.teach(learner), seconds, teacher.everyone.device)


def _rate(act: Callable[[], object], seconds: float, device: torch.device) -> float:
    """How often a second `act` can be done."""
    done, start = 0, time.perf_counter()
    while not done or time.perf_counter() - start < seconds:
        act()
        done += 1
        if device.type == "cuda" and not done % 16:
            torch.cuda.synchronize(device)  # or the loop would only measure how fast work is queued
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return done / (time.perf_counter() - start)


def _clips(folder: Path, recipe: Recipe) -> Iterator[Clip]:
    """Noise of the lengths that recordings have, written into `folder`."""
    rng = np.random.default_rng(0)
    rate_hz = recipe.features.sample_rate_hz
    for kind, label in [*(("keyword", word) for word in recipe.keywords), ("speech", ""), ("noise", "")]:
        seconds = CLIP_SECONDS[kind]
        for number in range(CLIPS_OF_EACH):
            path = folder / f"{kind}-{label}-{number}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(round(seconds * rate_hz)), rate_hz)
            yield Clip(path, kind, label, kind, str(number), seconds, "train", "", "", None, None, "")


def _pool(recipe: Recipe, positive: bool) -> Pool:
    """Random frames with plausible labels."""
    generator = torch.Generator().manual_seed(0)
    shape = (WINDOWS, recipe.features.n_mels, recipe.data.window_frames)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    keyword: Tensor = torch.arange(WINDOWS) % len(recipe.keywords)
    end = torch.full((WINDOWS,), recipe.window_samples * 3 // 4)
    if not positive:
        keyword, end = torch.full_like(keyword, -1), torch.zeros_like(end)
    return Pool(frames, keyword, end // 2, end)
