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
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import yaml
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from kws.config import dump
from kws.corpus import Clip, read_corpus
from kws.errors import ConfigError
from kws.features import FRAME_STEP_BEL
from kws.files import replacing
from kws.train import history
from kws.train.augment import Dice, FrameAugment
from kws.train.loss import KeywordLoss
from kws.train.net import KeywordNet
from kws.train.pool import Pool, load_pools
from kws.train.provenance import TRAINING_FILE, training_record
from kws.train.qat import QuantNet
from kws.train.recipe import Recipe
from kws.train.validation import Result, Validator

Phase = Literal["float", "qat"]
WARM_UP = 0.05
"""Share of the steps in which the learning rate rises."""
CONFIG, CHECKPOINT = "config.yaml", "checkpoint.pt"


@dataclass(frozen=True)
class Plan:
    """How long and how fast one phase learns."""

    phase: Phase
    steps: int
    learning_rate: float
    weight_decay: float
    scale_learning_rate: float = 0.0


class Trainer:
    """One run: prepares the data, then takes every step that its run folder does not have yet."""

    def __init__(
        self, recipe: Recipe, corpus: Path, run: Path, *, cache: Path, device: torch.device, jobs: int
    ) -> None:
        self.recipe, self.run, self.device = recipe, run, device
        known = training_clips(corpus, recipe)
        self._record_origin(known)
        self.validator = Validator(corpus, recipe, cache, device, jobs)
        self.positives, self.negatives = load_pools(known, recipe, cache, device, jobs)
        if device.type == "cuda":  # everything resident: batches are gathered on the device
            self.positives, self.negatives = (_to(p, device) for p in (self.positives, self.negatives))
        self.loss = KeywordLoss(recipe.features, recipe.network.stride, recipe.training)
        self.frame_augment = FrameAugment(recipe.augmentation)
        self.last_loss = torch.full((len(self.negatives),), torch.inf)

    def train(self) -> Result:
        """Run both phases, or what is left of them; returns the validation of the quantised network kept."""
        t, q = self.recipe.training, self.recipe.quantisation
        with _interruptible():
            self._phase(Plan("float", t.steps, t.learning_rate, t.weight_decay))
            return self._phase(Plan("qat", q.steps, q.learning_rate, t.weight_decay, q.scale_learning_rate))

    def _record_origin(self, clips: list[Clip]) -> None:
        """Write config.yaml and training.yaml, once: a resumed run keeps its origin."""
        config = yaml.safe_dump(dump(self.recipe), sort_keys=False).encode()
        started = self.run / CONFIG
        if started.exists() and started.read_bytes() != config:
            raise ConfigError(f"{self.run} was started with other settings; choose another run folder")
        self.run.mkdir(parents=True, exist_ok=True)
        if not (self.run / TRAINING_FILE).exists():
            origin = training_record(clips, config, self.recipe.seed)
            _write(self.run / TRAINING_FILE, yaml.safe_dump(dump(origin), sort_keys=False).encode())
        _write(self.run / CONFIG, config)

    def _phase(self, plan: Plan) -> Result:
        state = self._saved()
        if state and plan.phase == "float" and state["phase"] == "qat":
            return Result(**state["float_best"])
        net = self._network(plan)
        optimiser = _optimiser(net, plan)
        average = AveragedModel(
            net, multi_avg_fn=get_ema_multi_avg_fn(self.recipe.training.average_decay), use_buffers=True
        )
        start, best = 0, None
        if state and state["phase"] == plan.phase:
            net.load_state_dict(state["net"])
            average.load_state_dict(state["average"])
            optimiser.load_state_dict(state["optimiser"])
            self.last_loss = state["last_loss"]
            start, best = state["step"], Result(**state["best"]) if state["best"] else None
        float_best = state["float_best"] if state and plan.phase == "qat" else None

        def save(step: int) -> None:
            content = {
                "phase": plan.phase,
                "step": step,
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "last_loss": self.last_loss,
                "best": asdict(best) if best else None,
                "float_best": float_best if plan.phase == "qat" else asdict(best) if best else None,
            }
            with replacing(self.run / CHECKPOINT) as partial:
                torch.save(content, partial)

        every = self.recipe.training.validate_every_steps
        step = start
        try:
            with _progress(plan.phase, start, plan.steps) as show:
                for step in range(start, plan.steps):
                    loss = self._step(net, optimiser, plan, step)
                    average.update_parameters(net)
                    show(loss)
                    if (step + 1) % every == 0 or step + 1 == plan.steps:
                        result = self.validator(average.module)
                        self._record(plan, step + 1, loss, result)
                        if best is None or result.objective <= best.objective:
                            best = result
                            _save_weights(average.module, self.run / f"{plan.phase}.safetensors")
                        save(step + 1)
        except KeyboardInterrupt:
            save(step)
            raise
        assert best is not None  # noqa: S101 - the last step validates
        return best

    def _network(self, plan: Plan) -> nn.Module:
        torch.manual_seed(self.recipe.seed)
        recipe = self.recipe
        net = KeywordNet(recipe.network, recipe.features.n_mels, len(recipe.keywords))
        if plan.phase == "float":
            return net.to(self.device)
        net.load_state_dict(load_file(self.run / "float.safetensors"))
        quant = QuantNet.from_float(net.eval()).to(self.device)
        quant.calibrate(self._calibration())
        return quant

    def _calibration(self) -> Iterator[Tensor]:
        count, size = self.recipe.quantisation.calibration_windows, 128
        for pool in (self.positives, self.negatives):
            for first in range(0, min(count // 2, len(pool)), size):
                yield pool.frames[first : first + size].to(self.device).float() * FRAME_STEP_BEL

    def _step(self, net: nn.Module, optimiser: torch.optim.Optimizer, plan: Plan, step: int) -> float:
        progress = step / plan.steps
        for group in optimiser.param_groups:
            group["lr"] = group["peak_lr"] * _schedule(progress)
        offset = 0 if plan.phase == "float" else self.recipe.training.steps
        dice = Dice(self.recipe.seed * 1_000_003 + offset + step, self.device)
        frames, keyword, start, end, negatives = self._batch(offset + step)
        frames = self.frame_augment(frames, dice)
        net.train()
        mixed = self.device.type == "cuda" and plan.phase == "float"  # bfloat16 cannot hold 256 codes
        with torch.autocast("cuda", torch.bfloat16) if mixed else nullcontext():
            logits = net(frames)
        losses = self.loss(logits.float(), keyword, start, end)
        loss = losses.mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        self.last_loss[negatives] = losses.detach()[-len(negatives) :].cpu()
        return float(loss.detach())

    def _batch(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        t = self.recipe.training
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + step)
        mined = round(t.negatives_per_batch * t.mined_share)
        hardest = max(1, int(len(self.negatives) * t.mined_fraction))
        candidates = self._hardest(hardest, step)
        mined_rows = candidates[torch.randint(len(candidates), (mined,), generator=generator)]
        fresh = _sequence(len(self.negatives), t.negatives_per_batch - mined, step, self.recipe.seed)
        negatives = torch.cat([mined_rows, fresh])
        positives = _sequence(len(self.positives), t.positives_per_batch, step, self.recipe.seed + 1)
        parts = [(self.positives, positives), (self.negatives, negatives)]
        frames, keyword, start, end = (
            torch.cat([getattr(pool, name)[rows.to(getattr(pool, name).device)] for pool, rows in parts]).to(
                self.device
            )
            for name in ("frames", "keyword", "start", "end")
        )
        return frames.float() * FRAME_STEP_BEL, keyword, start, end, negatives

    def _hardest(self, count: int, step: int) -> Tensor:
        """Rows of the hardest negatives among those seen; looked up afresh every 50 steps."""
        if step % 50 == 0 or not hasattr(self, "_candidates"):
            seen = torch.where(self.last_loss.isinf(), torch.zeros(()), self.last_loss)
            self._candidates = seen.topk(count).indices
        return self._candidates

    def _record(self, plan: Plan, step: int, loss: float, result: Result) -> None:
        row = {
            "phase": plan.phase,
            "step": step,
            "loss": round(loss, 5),
            "time": time.time(),
            **asdict(result),
        }
        history.append(self.run, row)
        rates = "  ".join(f"{word} {100 * rate:.1f} %" for word, rate in result.false_reject_rate.items())
        mean = f"{100 * result.objective:.1f} %"
        print(f"{plan.phase} {step}/{plan.steps}  loss {loss:.4f}  FRR {mean}  ({rates})", flush=True)  # noqa: T201

    def _saved(self) -> dict[str, Any] | None:
        path = self.run / CHECKPOINT
        return cast(dict[str, Any], torch.load(path, weights_only=True)) if path.exists() else None


def training_clips(corpus: Path, recipe: Recipe) -> list[Clip]:
    """What a run may learn from: the training split of its corpora."""
    folders = [corpus, *map(Path, recipe.data.speech)]
    clips = [clip for folder in folders for clip in read_corpus(folder)]
    return [clip for clip in clips if clip.split == "train" and clip.source not in recipe.data.exclude]


def load_float(run: Path, recipe: Recipe) -> KeywordNet:
    """The float network that a run kept, ready to evaluate."""
    net = KeywordNet(recipe.network, recipe.features.n_mels, len(recipe.keywords))
    net.load_state_dict(load_file(run / "float.safetensors"))
    return net.eval()


def _optimiser(net: nn.Module, plan: Plan) -> torch.optim.Optimizer:
    scales = net.scale_parameters() if isinstance(net, QuantNet) else []
    apart = {id(p) for p in scales}
    weights = [p for p in net.parameters() if p.dim() > 1 and id(p) not in apart]
    others = [p for p in net.parameters() if p.dim() <= 1 and id(p) not in apart]
    groups = [
        {"params": weights, "weight_decay": plan.weight_decay, "peak_lr": plan.learning_rate},
        {"params": others, "weight_decay": 0.0, "peak_lr": plan.learning_rate},
    ]
    if scales:
        groups.append({"params": scales, "weight_decay": 0.0, "peak_lr": plan.scale_learning_rate})
    return torch.optim.AdamW(groups, lr=plan.learning_rate)


def _schedule(progress: float) -> float:
    """Learning rate over its peak: a linear rise, then half a cosine."""
    if progress < WARM_UP:
        return progress / WARM_UP + 1e-3
    return 0.5 * (1 + float(torch.cos(torch.tensor((progress - WARM_UP) / (1 - WARM_UP) * torch.pi))))


def _sequence(total: int, count: int, step: int, seed: int) -> Tensor:
    """Rows step * count .. + count of an endless sequence of shuffled passes over `total` rows."""
    rows = []
    position = step * count
    while count:
        epoch, offset = divmod(position, total)
        order = torch.randperm(total, generator=torch.Generator().manual_seed(seed * 7919 + epoch))
        part = order[offset : offset + count]
        rows.append(part)
        position, count = position + len(part), count - len(part)
    return torch.cat(rows)


def _to(pool: Pool, device: torch.device) -> Pool:
    return Pool(*(column.to(device) for column in (pool.frames, pool.keyword, pool.start, pool.end)))


def _save_weights(net: nn.Module, path: Path) -> None:
    with replacing(path) as partial:
        save_file({name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}, partial)


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as partial:
        partial.write_bytes(content)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM saves and stops like Ctrl-C does."""
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def _progress(phase: str, start: int, steps: int) -> Iterator[Any]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task(phase, total=steps, completed=start)
        yield lambda loss: bar.update(task, advance=1, description=f"{phase}  loss {loss:.4f}")
