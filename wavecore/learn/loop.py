"""The one training loop, for every forecaster that learns.

Design:
- A run is a pure function of model, data, borders, settings and seed: batches, noise and learning rate are functions of
  (seed, step), and no clock is read (a progress bar may read one to draw itself; nothing in the run looks at it).
- Between two steps the whole state is `Position` + weights + optimizer moments + best weights. It is written as a
  resume checkpoint, and a run that is killed and resumed ends with the bits of an undisturbed one.
- accelerate chooses device and autocast; torch's global generators are left as they were.
"""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from wavecore.config import TrainSettings
from wavecore.errors import DataError, StorageError, TrainingError
from wavecore.learn.checkpoint import discard_resume, fill, read_resume, trainable, write_resume
from wavecore.learn.curriculum import Curriculum, Loss
from wavecore.learn.device import accelerator, place_of, threads
from wavecore.learn.forecast import evaluating
from wavecore.learn.interrupt import whole
from wavecore.learn.losses import masked_sum
from wavecore.learn.manifest import hash_of
from wavecore.learn.schedule import WindowOrder, learning_rate_at, validation_subset
from wavecore.model.groups import ParameterGroup, declared
from wavecore.seeds import derive, isolated, reseed
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import Batch, WindowData

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@runtime_checkable
class HasObjective(Protocol):
    """A forecaster that is trained on more than the error of its forecasts."""

    def objective(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars by name; `loss` is what is minimized, the others are what it is made of, for the training curve."""


class Trained(NamedTuple):
    """The end of a training run.

    Attributes:
        model: with its best weights, on the device of the run.
        curve: one row per validation: step (steps done), loss (mean over the steps since the row before), select
            (error on the validation subset), learning_rate (of the last step); with a loss per wavelet scale also its
            present weights, low and high, and weights: [step, low, high] of every change so far; of a forecaster with
            an objective of its own also the means of what that is made of.
        best_step: step of the lowest select error, whose weights these are.
        steps: optimizer steps taken.
        stopped: `steps` where the budget was used up, `patience` where validation stopped improving.
        resumed_from: step of the checkpoint that the run went on from; None where it began at the start.
        notes: what a user should know, such as a checkpoint that could not be used.
    """

    model: nn.Module
    curve: list[dict[str, Any]]
    best_step: int
    steps: int
    stopped: Literal["steps", "patience"]
    resumed_from: int | None
    notes: tuple[str, ...]


class Position(NamedTuple):
    """Where a run stands between two steps; replaced as a whole, so an interrupt never sees half of it.

    Attributes:
        step: steps done.
        sums, added: of the losses of the steps since the last validation, by name.
        learning_rate: of the last step.
        curve: rows so far.
        best: weights of the best validation by name, on the device; None before the first.
        best_step, best_value: of the best validation.
        worse: validations since the best.
        curriculum: of the loss per wavelet scale.
        looked: step of the curriculum's last look at validation.
    """

    step: int = 0
    sums: Mapping[str, float] = {}
    added: int = 0
    learning_rate: float = 0.0
    curve: tuple[dict[str, Any], ...] = ()
    best: Mapping[str, Tensor] | None = None
    best_step: int = 0
    best_value: float | None = None
    worse: int = 0
    curriculum: Curriculum = Curriculum()
    looked: int = 0


def _curriculum(best: float | None, moved: list[int]) -> Curriculum:
    """As JSON kept it."""
    return Curriculum(best, tuple(moved))


def optimizer_of(groups: tuple[ParameterGroup, ...], settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW over the declared groups, each with its own share of learning rate and decay."""
    return torch.optim.AdamW(
        [
            {
                "params": list(group.parameters),
                "scale": group.learning_rate_scale,
                "weight_decay": settings.weight_decay if group.decay else 0.0,
            }
            for group in groups
        ],
        lr=settings.learning_rate,
    )


def gradients(
    model: nn.Module, batch: Batch, engine: Accelerator, loss_of: Loss, noise: int, moves: int = 0
) -> dict[str, float]:
    """Forward and backward of one step; the gradients lie in the weights when it returns.

    Args:
        loss_of: what is minimized, unless the model has an objective of its own.
        moves: of its curriculum, made so far.
        noise: seed of all that is random in the forward pass, such as dropout.

    Returns:
        `loss`, and what it is made of where the model says so; where it is not finite there was no backward pass.
    """
    reseed(engine.device, noise)
    if isinstance(model, HasObjective):
        with engine.autocast():
            found = model.objective(batch)
    else:
        with engine.autocast():
            yhat = model(batch)
        found = {"loss": loss_of(yhat.float(), batch.y, batch.mask, moves)}
    values = {name: part.item() for name, part in found.items()}
    if math.isfinite(values["loss"]):
        engine.backward(found["loss"])
    return values


def update(optimizer: torch.optim.Optimizer, engine: Accelerator, settings: TrainSettings, rate: float) -> None:
    """Clip the gradients and move the weights by one step of the learning rate `rate`."""
    if settings.clip_norm > 0:
        engine.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], settings.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    optimizer.step()


def evaluate(
    model: nn.Module, data: WindowData, chosen: np.ndarray, engine: Accelerator, settings: TrainSettings
) -> float:
    """Error of `settings.loss` over the observed targets of the windows `chosen`.

    Raises:
        DataError: not one of their targets was observed.
    """
    total, count = 0.0, 0
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(chosen), settings.batch_windows):
            batch = data.batch(chosen[start : start + settings.batch_windows])
            with engine.autocast():
                yhat = model(batch)
            part, scored = masked_sum(settings.loss, yhat.float(), batch.y, batch.mask)
            total, count = total + part, count + scored
    if not count:
        raise DataError(
            f"no target was observed in rows {chosen[0]} to {chosen[-1] + data.horizon}, where training is validated",
            "move the split borders, or set train.eval_windows to 0",
            rows=(int(chosen[0]), int(chosen[-1])),
        )
    return total / count


class _Run:
    """One training run on its device; `position` and what it refers to are its whole state."""

    def __init__(
        self,
        model: nn.Module,
        data: WindowData,
        borders: Borders,
        settings: TrainSettings,
        seed: int,
        engine: Accelerator,
        resume_dir: Path | None,
        run_hash: str,
        where: str,
    ) -> None:
        self.model = model.to(engine.device)
        self.data = data.to(engine.device)
        self.settings = settings
        self.seed = seed
        self.engine = engine
        self.where = where
        self.groups = declared(model)
        self.weights = trainable(model)
        if not self.weights:
            raise TrainingError(f"{where}: {type(model).__name__} has no trainable weights", "forecast with it as is")
        self.optimizer = optimizer_of(self.groups, settings)
        self.order = WindowOrder(origins(borders, "train", data.window, data.horizon), settings.batch_windows, seed)
        select = origins(borders, "select", data.window, data.horizon)
        self.select = validation_subset(select, settings.eval_windows)
        self.loss = Loss(settings, data.horizon).to(engine.device)
        self.watched = validation_subset(select, settings.wavelet_loss.windows)
        self.position = Position()
        self.resume_dir = resume_dir
        self.saved_step = 0
        # Names, shapes and settings are bound too, so that a careless run_hash cannot mix two runs.
        shapes = {name: list(p.shape) for name, p in self.weights.items()}
        self.bound = hash_of([run_hash, settings, seed, borders, data.window, data.horizon, shapes])
        kept = model.state_dict().keys()
        self.buffers = {name: b.clone() for name, b in model.named_buffers() if name in kept}

    def step(self) -> None:
        """One optimizer step."""
        before = self.position
        batch = self.data.batch(self.order.at(before.step))
        rate = learning_rate_at(before.step, self.settings)
        self.model.train()
        self.optimizer.zero_grad()
        noise = derive(self.seed, "noise", before.step)
        losses = gradients(self.model, batch, self.engine, self.loss, noise, before.curriculum.moves)
        self._need_finite(losses["loss"], "the training loss", before.step + 1)
        with whole():
            update(self.optimizer, self.engine, self.settings, rate)
            self.position = before._replace(
                step=before.step + 1,
                sums={name: before.sums.get(name, 0.0) + value for name, value in losses.items()},
                added=before.added + 1,
                learning_rate=rate,
            )

    def look(self) -> None:
        """Move the weights of the loss per wavelet scale on, where that is due and validation has improved."""
        now, chosen = self.position, self.settings.wavelet_loss
        moving = chosen.enabled and chosen.curriculum == "improving" and now.curriculum.moves < chosen.moves
        if not moving or now.step % chosen.every(self.settings.steps) or now.step == now.looked:
            return
        error = evaluate(self.model, self.data, self.watched, self.engine, self.settings)
        self._need_finite(error, "the error that the curriculum looks at", now.step)
        self.position = now._replace(curriculum=now.curriculum.after(error, now.step, chosen), looked=now.step)

    def due(self) -> bool:
        """Whether a validation belongs between the last step and the next, and has not been made."""
        at, curve = self.position.step, self.position.curve
        here = at > 0 and (at % self.settings.eval_every == 0 or at == self.settings.steps)
        return here and (not curve or curve[-1]["step"] != at)

    def validate(self) -> None:
        """Score `select`, add a row to the curve, and keep the weights if they are the best so far."""
        now = self.position
        reseed(self.engine.device, derive(self.seed, "validation", now.step))
        value = evaluate(self.model, self.data, self.select, self.engine, self.settings)
        self._need_finite(value, "the error on `select`", now.step)
        self._need_same_buffers()
        row: dict[str, Any] = {
            "step": now.step,
            **{name: total / now.added for name, total in now.sums.items()},
            "select": value,
            "learning_rate": now.learning_rate,
        }
        if self.settings.wavelet_loss.enabled:
            row["low"], row["high"] = self.settings.wavelet_loss.weights(now.curriculum.moves)
            row["weights"] = now.curriculum.path(self.settings.wavelet_loss)
        after = now._replace(curve=(*now.curve, row), sums={}, added=0, worse=now.worse + 1)
        if now.best_value is None or value < now.best_value:
            best = {name: p.detach().clone() for name, p in self.weights.items()}
            after = after._replace(best=best, best_step=now.step, best_value=value, worse=0)
        self.position = after

    def save(self) -> None:
        """Write the resume checkpoint of the present position, unless it is there already."""
        at = self.position
        if self.resume_dir is None or at.step == self.saved_step:
            return
        state = at._asdict()
        best = state.pop("best") or {}
        names = {id(p): name for name, p in self.weights.items()}
        tensors: dict[str, Tensor] = {f"model/{name}": p for name, p in self.weights.items()}
        tensors |= {f"best/{name}": t for name, t in best.items()}
        for parameter, moments in self.optimizer.state.items():
            tensors |= {f"optimizer/{names[id(parameter)]}/{key}": t for key, t in moments.items()}
        write_resume(self.resume_dir, self.bound, at.step, state, tensors)
        self.saved_step = at.step

    def restore(self) -> tuple[str, ...]:
        """Go on from the resume checkpoint, if there is one that belongs to this run; what a user should know."""
        if self.resume_dir is None:
            return ()
        try:
            found = read_resume(self.resume_dir, self.bound)
        except StorageError as error:
            note = f"{self.where}: the resume checkpoint cannot be used, training starts anew: {error.problem}"
            log.warning(note)
            discard_resume(self.resume_dir)
            return (note,)
        if found is None:
            return ()
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "optimizer": {}}
        for name, tensor in found.tensors.items():
            part, _, rest = name.partition("/")
            parts[part][rest] = tensor
        fill(self.weights, parts["model"], self.resume_dir)
        device = self.engine.device
        saved = self.optimizer.state_dict()
        names = {id(p): name for name, p in self.weights.items()}
        in_order = [names[id(p)] for group in self.optimizer.param_groups for p in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in parts["optimizer"].items():
            name, _, moment = key.rpartition("/")
            state.setdefault(in_order.index(name), {})[moment] = tensor
        self.optimizer.load_state_dict({"state": state, "param_groups": saved["param_groups"]})
        best = {name: t.to(device) for name, t in parts["best"].items()}
        read = {"curve": tuple(found.state["curve"]), "curriculum": _curriculum(*found.state["curriculum"])}
        self.position = Position(**{**found.state, **read, "best": best or None})
        self.saved_step = found.step
        note = f"{self.where}: goes on from the resume checkpoint of step {found.step}"
        log.info(note)
        return (note,)

    def load_best(self) -> None:
        """Put the weights of the best validation into the model and free the gradients."""
        assert self.position.best is not None
        with torch.no_grad():
            for name, parameter in self.weights.items():
                parameter.copy_(self.position.best[name])
        self.optimizer.zero_grad()

    def _need_finite(self, value: float, what: str, step: int) -> None:
        if not math.isfinite(value):
            raise TrainingError(
                f"{self.where}: {what} is {value} at step {step} of {self.settings.steps}",
                "lower train.learning_rate, set train.clip_norm, or use train.precision float32",
            )

    def _need_same_buffers(self) -> None:
        # Only weights are saved: a module that learns in a buffer would be saved without what it learned.
        for name, now in self.model.named_buffers():
            if name in self.buffers and not torch.equal(now, self.buffers[name]):
                raise TrainingError(
                    f"{self.where}: the buffer {name!r} changes in training and would not be saved",
                    "make it a parameter, or pass it in and out as state",
                )


def train(
    model: nn.Module,
    data: WindowData,
    borders: Borders,
    settings: TrainSettings,
    seed: int,
    resume_dir: Path | None = None,
    run_hash: str = "",
    progress: bool = False,
    where: str = "training",
) -> Trained:
    """Train a forecaster on the `train` windows, stop early on `select`, and end with its best weights.

    Args:
        model: from `wavecore.model.build`; trained in place.
        data: the standardized series.
        borders: its splits; `decide` and `test` are not looked at.
        settings: see TrainSettings.
        seed: of batches and noise. (The weights at the start come with the model.)
        resume_dir: folder of this run alone for resume checkpoints, removed by the caller once the model is saved;
            None for a run that cannot be resumed.
        run_hash: of settings, data and code; a checkpoint of another hash is reported and not used.
        progress: draw a progress bar on standard error where that is a terminal.
        where: names benchmark, stage and seed in messages.

    Raises:
        TrainingError: nothing to train, a loss that is not finite (named with its step), state outside the weights.
        SettingsError: a split without one window; CUDA asked for and missing.
        StorageError: a resume checkpoint could not be written.
        KeyboardInterrupt: passed on after the resume checkpoint was written, as any exit that is no fault.
    """
    from tqdm import tqdm

    place = place_of(settings)
    device = torch.device("cuda", torch.cuda.current_device()) if place.device == "cuda" else torch.device("cpu")
    modes = [(module, module.training) for module in model.modules()]
    with threads(settings.threads), isolated(device), accelerator(place) as engine:
        run = _Run(model, data, borders, settings, seed, engine, resume_dir, run_hash, where)
        notes = run.restore()
        resumed_from = run.position.step if run.saved_step else None
        silent = not (progress and sys.stderr.isatty())
        try:
            done = run.position.step
            with tqdm(
                total=settings.steps, initial=done, desc=where, unit="step", disable=silent, file=sys.stderr
            ) as bar:
                stopped = _loop(run, bar)
        except Exception:
            raise
        except BaseException:
            # An interrupt comes between two steps (see `whole`) or before the weights move: the position is sound.
            run.save()
            raise
        finally:
            for module, mode in modes:
                module.training = mode
        run.load_best()
    end = run.position
    return Trained(model, list(end.curve), end.best_step, end.step, stopped, resumed_from, notes)


def _loop(run: _Run, bar: Any) -> Literal["steps", "patience"]:
    settings = run.settings
    while True:
        if run.due():
            run.validate()
            bar.set_postfix(select=f"{run.position.curve[-1]['select']:.4f}", best=run.position.best_step)
        worn = run.position.worse >= settings.patience
        if worn or run.position.step >= settings.steps:
            # What comes after training may be stopped too, and should not cost the last steps.
            run.save()
            return "patience" if worn else "steps"
        run.look()
        if run.position.step % settings.checkpoint_every == 0:
            run.save()
        run.step()
        bar.update()
