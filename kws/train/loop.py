"""Training: the float network, then its quantised twin; resumable, chosen by misses at fixed false accepts.

A run folder holds::

    config.yaml          the recipe as it was read, defaults included
    training.yaml        corpora, licences and commit, for the model's manifest
    history.jsonl        one line per network that was validated
    history.png          the same as a picture
    mined-1.npz          windows that the first round of mining found, and so on
    checkpoint.pt        everything needed to go on; replaced at every validation and when interrupted
    float.safetensors    the best float network so far (averaged weights, or the mean of checkpoints)
    qat.safetensors      the best quantised network so far: what `kws export` reads

Which windows a step sees depends on the seed, the step and the losses so far, all of which are in the
checkpoint: a resumed run continues the same course.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Event
from types import FrameType
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from kws.config import load
from kws.corpus import Clip
from kws.errors import ConfigError
from kws.files import replacing, write_text
from kws.manifest import FLOAT_FILE
from kws.train import history
from kws.train.batches import Batches
from kws.train.cache import trim
from kws.train.clipvalidation import ClipValidator
from kws.train.learner import Learner, Plan
from kws.train.library import Library
from kws.train.mining import Miner
from kws.train.net import KeywordNet
from kws.train.pool import load_pools, read_windows
from kws.train.processes import Processes
from kws.train.progress import step_bar
from kws.train.provenance import (
    CONFIG_FILE,
    QUANT_FILE,
    TRAINING_FILE,
    as_yaml,
    record_effort,
    training_record,
    write_record,
)
from kws.train.qat import QuantNet
from kws.train.recipe import Recipe
from kws.train.start import first_network
from kws.train.teacher import Teacher
from kws.train.validation import Result, Validator

CHECKPOINT = "checkpoint.pt"
SHOWN_STEPS = 20
"""The progress bar shows the loss this often."""
WEIGHTS_FILE = {"float": FLOAT_FILE, "qat": QUANT_FILE}


class Trainer:
    """One run: prepares the data, then takes every step that its run folder does not have yet."""

    def __init__(
        self,
        recipe: Recipe,
        known: Library,
        held_out: Library,
        run: Path,
        *,
        cache: Path,
        jobs: int,
        everyone: Processes,
    ) -> None:
        self.recipe, self.run, self.known, self.everyone = recipe, run, known, everyone
        self._start_s = time.monotonic()
        self._record_origin(known.clips)
        judge = ClipValidator if recipe.classifies else Validator
        with everyone.first_alone():
            self.validator = judge(
                held_out.readable(), recipe, cache=cache, device=everyone.device, jobs=jobs
            )
        pools = load_pools(known, recipe, cache, jobs, everyone)
        if everyone.is_first:
            trim(cache)
        self.batches = Batches(*pools, recipe.training, recipe.seed, everyone.device)
        self.teacher = Teacher(recipe, self.batches, everyone)
        self._rounds = 0
        """Rounds of mining whose windows are among the negatives."""

    def train(self) -> Result:
        """Run both phases, or what is left of them; returns the validation of the quantised network kept.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM came; the state after the last whole step is saved.
        """
        t, q = self.recipe.training, self.recipe.quantisation
        with stop_request() as stopping:
            saved = self._saved()
            self._start_s -= saved.get("seconds", 0) if saved else 0  # older runs did not count them
            if not saved or saved["phase"] == "float":
                self._phase(Plan("float", 0, t.steps, t.learning_rate, t.weight_decay), stopping)
            quantised = Plan("qat", t.steps, q.steps, q.learning_rate, t.weight_decay, q.scale_learning_rate)
            result = self._phase(quantised, stopping)
        if self.everyone.is_first:
            effort = record_effort(self.run, self._spent_s / 60, self.everyone)
            print(f"took {effort.minutes} minutes on {effort.machine}")  # noqa: T201
        return result

    @property
    def _spent_s(self) -> float:
        """Wall time of this run, interrupted calls included."""
        return time.monotonic() - self._start_s

    def _record_origin(self, clips: list[Clip]) -> None:
        """Write config.yaml and training.yaml, once: a resumed run keeps its origin."""
        started = self.run / CONFIG_FILE
        if started.exists() and load(started, Recipe) != self.recipe:
            raise ConfigError(f"{self.run} was started with other settings; choose another run folder")
        if not self.everyone.is_first:
            return
        self.run.mkdir(parents=True, exist_ok=True)
        if not (self.run / TRAINING_FILE).exists():
            write_record(self.run, training_record(clips, self.recipe))
        write_text(self.run / CONFIG_FILE, as_yaml(self.recipe))

    def _phase(self, plan: Plan, stopping: Event) -> Result:
        """Take the steps of one phase that are missing."""
        saved = self._saved()
        net = first_network(self.recipe) if plan.phase == "float" else self._quant_network()
        net = net.to(self.everyone.device).train()
        learner = Learner(net, plan, self.recipe.training, self.everyone)
        if saved and saved["phase"] == plan.phase:
            learner.load_state_dict(saved["learner"])
            while self._rounds < saved["rounds"]:
                self._mine(learner)
            self.batches.load_state_dict(saved["batches"])
        elif plan.phase == "qat":
            # Losses of hundreds of steps ago, of another network, would choose half of what is fine-tuned on.
            self.batches.forget()
        if not plan.steps and learner.best is None:
            while plan.phase == "float" and self._is_mining_due(learner):
                self._mine(learner)
            self._validate(learner, None)
        silent = not self.everyone.is_first
        with step_bar(plan.phase, plan.steps, learner.step, disable=silent) as show:
            while learner.step < plan.steps:
                if self.everyone.any(stopping.is_set()):
                    self._save(learner)
                    raise KeyboardInterrupt
                if plan.phase == "float" and self._is_mining_due(learner):
                    self._mine(learner)
                    self._save(learner)
                loss = self.teacher.teach(learner)
                is_shown = learner.step % SHOWN_STEPS == 0  # reading it waits for a GPU
                show(f"loss {float(loss):.4f}" if is_shown else "")
                if self._is_due(learner):
                    self._validate(learner, float(loss))
        assert learner.best is not None  # noqa: S101 - the last step validates
        return learner.best

    def _is_mining_due(self, learner: Learner) -> bool:
        """Rounds are spread evenly over the steps; of none, they are for the fine-tuning, if there is any."""
        t = self.recipe.training
        if self.recipe.classifies:  # to which other speech is not wrong
            return False
        if not t.steps:
            return bool(self.recipe.quantisation.steps) and self._rounds < t.mining_rounds
        due = learner.step * (t.mining_rounds + 1) // t.steps
        return self._rounds < min(due, t.mining_rounds)

    def _mine(self, learner: Learner) -> None:
        """One round: more negatives, from where the averaged weights are wrong."""
        self._rounds += 1
        path = self.run / f"mined-{self._rounds}.npz"
        with self.everyone.first_alone():
            if not path.is_file():
                miner = Miner(self.known, self.recipe, self.everyone.device)
                miner.write(path, learner.average.module, self._rounds)
        self.batches.extend(read_windows([path]))

    def _is_due(self, learner: Learner) -> bool:
        every = self.recipe.training.validate_every_steps
        return learner.step % every == 0 or learner.step == learner.plan.steps

    def _validate(self, learner: Learner, loss: float | None) -> None:
        """Judge the averaged weights, and the mean of the last checkpoints; history, log, checkpoint."""
        if self.everyone.is_first:
            net, last = learner.average.module, learner.checkpoints
            last.add(net)
            self._judge(learner, net, loss, 1)
            if len(last) > 1:
                self._judge(learner, last.mean(net), loss, len(last))
        learner.best = self.everyone.told(learner.best)
        self._save(learner)

    def _judge(self, learner: Learner, net: nn.Module, loss: float | None, checkpoints: int) -> None:
        """Validate `net`, the mean of so many checkpoints, and keep it if it is the best so far."""
        result = self.validator(net)
        plan, step = learner.plan, learner.step
        row = {"phase": plan.phase, "step": step, "loss": loss and round(loss, 5), "time": time.time()}
        history.append(self.run, row | {"checkpoints": checkpoints} | asdict(result))
        if learner.best is None or result.objective <= learner.best.objective:
            learner.best = result
            _save_weights(net, self.run / WEIGHTS_FILE[plan.phase])
        rates = "  ".join(f"{word} {100 * rate:.1f} %" for word, rate in result.false_reject_rate.items())
        learned = "as it was" if loss is None else f"loss {loss:.4f}"
        whose = learned if checkpoints == 1 else f"mean of {checkpoints} checkpoints"
        mean = f"{100 * result.objective:.1f} %"
        print(f"{plan.phase} {step}/{plan.steps}  {whose}  FRR {mean}  ({rates})", flush=True)  # noqa: T201

    def _quant_network(self) -> nn.Module:
        """The quantised twin of the best float network, calibrated."""
        recipe = self.recipe
        net = KeywordNet(recipe.network, recipe.features.frame_size, len(recipe.keywords))
        net.load_state_dict(load_file(self.run / FLOAT_FILE))
        quant = QuantNet.from_float(net.eval(), weight_limit=recipe.quantisation.largest_weight)
        quant.to(self.everyone.device)
        quant.calibrate(self.teacher.calibration(recipe.quantisation.calibration_windows))
        state = {name: tensor.cpu() for name, tensor in quant.state_dict().items()}
        quant.load_state_dict(self.everyone.told(state))  # the same zero points in all
        return quant

    def _save(self, learner: Learner) -> None:
        """Write the checkpoint; the other processes wait until it is whole."""
        if self.everyone.is_first:
            content = {
                "phase": learner.plan.phase,
                "learner": learner.state_dict(),
                "batches": self.batches.state_dict(),
                "rounds": self._rounds,
                "seconds": self._spent_s,
            }
            with replacing(self.run / CHECKPOINT) as partial:
                torch.save(content, partial)
        self.everyone.wait()

    def _saved(self) -> dict[str, Any] | None:
        path = self.run / CHECKPOINT
        return cast(dict[str, Any], torch.load(path, "cpu", weights_only=True)) if path.exists() else None


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
