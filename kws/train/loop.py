"""Training: the float network, then its quantised twin; resumable, chosen by misses at fixed false accepts.

A run folder holds::

    config.yaml          the recipe as it was read, defaults included
    training.yaml        corpora, licences and commit, for the model's manifest
    history.jsonl        one line per validation
    history.png          the same as a picture
    checkpoint.pt        everything needed to go on; replaced at every validation and when interrupted
    float.safetensors    the best float network so far (averaged weights)
    qat.safetensors      the best quantised network so far: what `kws export` reads

Which windows a step sees depends on the seed, the step and the losses so far, all of which are in the
checkpoint: a resumed run continues the same course.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any, cast

import torch
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import nn

from kws.config import dump
from kws.corpus import Clip, read_corpus
from kws.errors import ConfigError
from kws.files import replacing, write_text
from kws.manifest import FLOAT_FILE
from kws.train import history
from kws.train.augment import Dice, FrameAugment
from kws.train.batches import Batches
from kws.train.clipvalidation import ClipValidator
from kws.train.learner import Learner, Plan
from kws.train.loss import ClipLoss, KeywordLoss
from kws.train.net import KeywordNet
from kws.train.pool import load_pools
from kws.train.provenance import CONFIG_FILE, QUANT_FILE, TRAINING_FILE, training_record
from kws.train.qat import QuantNet
from kws.train.recipe import Recipe
from kws.train.validation import Result, Validator

CHECKPOINT = "checkpoint.pt"
WEIGHTS_FILE = {"float": FLOAT_FILE, "qat": QUANT_FILE}


class Trainer:
    """One run: prepares the data, then takes every step that its run folder does not have yet."""

    def __init__(
        self, recipe: Recipe, corpus: Path, run: Path, *, cache: Path, device: torch.device, jobs: int
    ) -> None:
        self.recipe, self.run, self.device = recipe, run, device
        known = training_clips(corpus, recipe)
        self._record_origin(known)
        judge = ClipValidator if recipe.classifies else Validator
        self.validator = judge(corpus, recipe, cache, device, jobs)
        self.batches = Batches(
            *load_pools(known, recipe, cache, device, jobs), recipe.training, recipe.seed, device
        )
        self.loss = (
            ClipLoss(recipe.training)
            if recipe.classifies
            else KeywordLoss(recipe.features, recipe.network.stride, recipe.training)
        )
        self.frame_augment = FrameAugment(recipe.augmentation)

    def train(self) -> Result:
        """Run both phases, or what is left of them; returns the validation of the quantised network kept.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM came; the state after the last whole step is saved.
        """
        t, q = self.recipe.training, self.recipe.quantisation
        with stop_request() as stopping:
            saved = self._saved()
            if not saved or saved["phase"] == "float":
                self._phase(Plan("float", 0, t.steps, t.learning_rate, t.weight_decay), stopping)
            quantised = Plan("qat", t.steps, q.steps, q.learning_rate, t.weight_decay, q.scale_learning_rate)
            return self._phase(quantised, stopping)

    def _record_origin(self, clips: list[Clip]) -> None:
        """Write config.yaml and training.yaml, once: a resumed run keeps its origin."""
        config = yaml.safe_dump(dump(self.recipe), sort_keys=False)
        started = self.run / CONFIG_FILE
        if started.exists() and started.read_text(encoding="utf-8") != config:
            raise ConfigError(f"{self.run} was started with other settings; choose another run folder")
        self.run.mkdir(parents=True, exist_ok=True)
        if not (self.run / TRAINING_FILE).exists():
            origin = training_record(clips, config.encode(), self.recipe.seed)
            write_text(self.run / TRAINING_FILE, yaml.safe_dump(dump(origin), sort_keys=False))
        write_text(self.run / CONFIG_FILE, config)

    def _phase(self, plan: Plan, stopping: Event) -> Result:
        """Take the steps of one phase that are missing."""
        saved = self._saved()
        learner = Learner(self._network(plan), plan, self.recipe.training.average_decay)
        if saved and saved["phase"] == plan.phase:
            learner.load_state_dict(saved["learner"])
            self.batches.load_state_dict(saved["batches"])
        with _progress(plan, learner.step) as show:
            while learner.step < plan.steps:
                if stopping.is_set():
                    self._save(learner)
                    raise KeyboardInterrupt
                loss = self._step(learner)
                show(loss)
                if self._is_due(learner):
                    self._validate(learner, loss)
                    self._save(learner)
        assert learner.best is not None  # noqa: S101 - the last step validates
        return learner.best

    def _step(self, learner: Learner) -> float:
        """One batch; returns its mean loss."""
        plan = learner.plan
        number = plan.first_step + learner.step
        torch.manual_seed(self.recipe.seed * 1_000_003 + number)  # dropout
        batch = self.batches.draw(number)
        hop = self.recipe.features.hop_samples
        word = batch.start // hop, -(-batch.end // hop)
        dice = Dice(self.recipe.seed * 1_000_003 + number, self.device)
        frames = self.frame_augment(batch.frames, word, dice)
        mixed = self.device.type == "cuda" and plan.phase == "float"  # bfloat16 cannot hold 256 codes
        with torch.autocast("cuda", torch.bfloat16) if mixed else nullcontext():
            logits = learner.net(frames)
        losses = self.loss(logits.float(), batch.keyword, batch.start, batch.end)
        learner.descend(losses.mean())
        self.batches.learn(batch, losses)
        return float(losses.detach().mean())

    def _is_due(self, learner: Learner) -> bool:
        every = self.recipe.training.validate_every_steps
        return learner.step % every == 0 or learner.step == learner.plan.steps

    def _validate(self, learner: Learner, loss: float) -> None:
        """Judge the averaged weights, keep them if they are the best so far, write history and log."""
        result = self.validator(learner.average.module)
        plan, step = learner.plan, learner.step
        row = {"phase": plan.phase, "step": step, "loss": round(loss, 5), "time": time.time()}
        history.append(self.run, row | asdict(result))
        if learner.best is None or result.objective <= learner.best.objective:
            learner.best = result
            _save_weights(learner.average.module, self.run / WEIGHTS_FILE[plan.phase])
        rates = "  ".join(f"{word} {100 * rate:.1f} %" for word, rate in result.false_reject_rate.items())
        mean = f"{100 * result.objective:.1f} %"
        print(f"{plan.phase} {step}/{plan.steps}  loss {loss:.4f}  FRR {mean}  ({rates})", flush=True)  # noqa: T201

    def _network(self, plan: Plan) -> nn.Module:
        torch.manual_seed(self.recipe.seed)
        recipe = self.recipe
        net = KeywordNet(recipe.network, recipe.features.n_mels, len(recipe.keywords))
        if plan.phase == "float":
            return net.to(self.device).train()
        net.load_state_dict(load_file(self.run / FLOAT_FILE))
        quant = QuantNet.from_float(net.eval()).to(self.device)
        quant.calibrate(self.batches.calibration(recipe.quantisation.calibration_windows))
        return quant.train()

    def _save(self, learner: Learner) -> None:
        content = {
            "phase": learner.plan.phase,
            "learner": learner.state_dict(),
            "batches": self.batches.state_dict(),
        }
        with replacing(self.run / CHECKPOINT) as partial:
            torch.save(content, partial)

    def _saved(self) -> dict[str, Any] | None:
        path = self.run / CHECKPOINT
        return cast(dict[str, Any], torch.load(path, weights_only=True)) if path.exists() else None


def training_clips(corpus: Path, recipe: Recipe) -> list[Clip]:
    """What a run may learn from: the training split of its corpora."""
    folders = [corpus, *map(Path, recipe.data.speech)]
    clips = [clip for folder in folders for clip in read_corpus(folder)]
    return [clip for clip in clips if clip.split == "train" and clip.source not in recipe.data.exclude]


def _save_weights(net: nn.Module, path: Path) -> None:
    with replacing(path) as partial:
        save_file({name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}, partial)


@contextmanager
def stop_request() -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set, so that a run stops between two steps; again: at once."""
    event = Event()

    def request(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    previous = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _progress(plan: Plan, start: int) -> Iterator[Callable[[float], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(plan.phase, total=plan.steps, completed=start)
        yield lambda loss: bar.update(task, advance=1, description=f"{plan.phase}  loss {loss:.4f}")
