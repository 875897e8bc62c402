"""What forecasts and learns in a session: any forecaster as it is, one that takes gradient steps, Titan-Stream.

All take the same way in, `wavecore.stream.session.Learner`; the Fourier regression of `wavecore.stream.fourier` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from wavecore.errors import TrainingError
from wavecore.learn.checkpoint import fill
from wavecore.learn.loop import HasObjective
from wavecore.learn.losses import mse
from wavecore.model.groups import ParameterGroup, declared
from wavecore.seeds import generator
from wavecore.series.windows import Batch
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.memory import MemoryState
from wavecore.stream.objective import losses_of
from wavecore.stream.reading import Reading
from wavecore.stream.session import Label
from wavecore.stream.settings import OnlineSettings

Parameters = dict[str, Tensor]


def batched(labels: Sequence[Label]) -> Batch:
    """Labels as one batch."""
    return Batch(
        torch.stack([label.x for label in labels]),
        torch.stack([label.y for label in labels]),
        torch.stack([label.mask for label in labels]),
        torch.tensor([label.origin for label in labels]),
    )


def asked(x: Tensor, horizon: int, origin: int) -> Batch:
    """One window [T, N] as a batch whose targets are not known."""
    empty = x.new_zeros(1, horizon, x.shape[1])
    return Batch(x[None], empty, torch.zeros_like(empty, dtype=torch.bool), torch.tensor([origin]))


class Frozen:
    """A forecaster as it is.

    Args:
        model: forecasts a batch.
        horizon: H.
    """

    def __init__(self, model: nn.Module, horizon: int) -> None:
        self.model = model.eval()
        self.horizon = horizon

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, Any]:
        """[T, N] → [H, N]; nothing to note."""
        with torch.no_grad():
            return self.model(asked(x, self.horizon, origin))[0], None

    def learn(self, labels: Sequence[Label]) -> None:
        """Nothing."""

    def state(self) -> Parameters:
        """Nothing was learned."""
        return {}

    def restore(self, state: Parameters) -> None:
        """Nothing to go on from.

        Raises:
            StorageError: something was learned, so the state is another learner's.
        """
        fill({}, state, Path("state"))


class Gradient(Frozen):
    """Delayed online gradient descent: one step of AdamW on the labels that have become known, without dropout.

    Args:
        model: forecasts a batch; changed in place.
        horizon: H.
        settings: see OnlineSettings.
        groups: what learns, and how fast; None: all that `model` declares.
    """

    def __init__(
        self,
        model: nn.Module,
        horizon: int,
        settings: OnlineSettings,
        groups: Sequence[ParameterGroup] | None = None,
    ) -> None:
        super().__init__(model, horizon)
        self.settings = settings
        chosen = declared(model) if groups is None else groups
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(g.parameters), "lr": settings.learning_rate * g.learning_rate_scale}
                for g in chosen
                if g.learning_rate_scale > 0
            ],
            weight_decay=0.0,
            # One pass over all weights: a row's step is as long as it has operations.
            fused=True,
        )
        self.learned = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.names = {id(p): name for name, p in model.named_parameters()}

    def learn(self, labels: Sequence[Label]) -> None:
        """One step.

        Raises:
            TrainingError: the loss is not finite; the weights are as before.
        """
        self.step(self.loss(labels), labels[-1].origin)

    def loss(self, labels: Sequence[Label]) -> Tensor:
        """What the model was trained on, or the mean square error of what was observed."""
        batch = batched(labels)
        if isinstance(self.model, HasObjective):
            return self.model.objective(batch)["loss"]
        return mse(self.model(batch), batch.y, batch.mask)

    def step(self, loss: Tensor, origin: int) -> None:
        """Move the weights against the gradient of `loss`."""
        if not torch.isfinite(loss):
            raise TrainingError(
                f"learning from the label of row {origin}: the loss is {loss.item()}",
                "lower the rates of online.search (where it is empty: online.learning_rate)",
            )
        grads = torch.autograd.grad(loss, self.learned, allow_unused=True)
        for weight, grad in zip(self.learned, grads, strict=True):
            weight.grad = grad
        torch.nn.utils.clip_grad_norm_(self.learned, self.settings.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> Parameters:
        """Weights and the optimizer's moments."""
        found = {f"model/{self.names[id(p)]}": p.detach().clone() for p in self.learned}
        for p, moments in self.optimizer.state.items():
            found |= {f"optimizer/{self.names[id(p)]}/{key}": t.detach().clone() for key, t in moments.items()}
        return found

    def restore(self, state: Parameters) -> None:
        """Weights and moments as they were.

        Raises:
            StorageError: a weight is missing, unknown, or of another shape.
        """
        by_name = {self.names[id(p)]: p for p in self.learned}
        weights = {k.removeprefix("model/"): t for k, t in state.items() if k.startswith("model/")}
        fill(by_name, weights, Path("state"))
        self.optimizer.state.clear()
        for key, tensor in state.items():
            if key.startswith("optimizer/"):
                name, _, moment = key.removeprefix("optimizer/").rpartition("/")
                self.optimizer.state[by_name[name]][moment] = tensor.clone()


class Replay(Gradient):
    """Experience replay: each step also on labels of the past, drawn from a reservoir of fixed size.

    Args:
        model, horizon, settings, groups: as of Gradient.
        seed: of the draws.
        size: labels kept (Vitter's reservoir: every label so far is kept with the same probability).
        replayed: labels drawn for each step.
    """

    def __init__(
        self,
        model: nn.Module,
        horizon: int,
        settings: OnlineSettings,
        seed: int,
        groups: Sequence[ParameterGroup] | None = None,
        size: int = 256,
        replayed: int = 7,
    ) -> None:
        super().__init__(model, horizon, settings, groups)
        self.seed, self.size, self.replayed = seed, size, replayed
        self.kept: list[Label] = []
        self.seen = 0

    def learn(self, labels: Sequence[Label]) -> None:
        """One step on the new labels and on some of old."""
        draw = generator(self.seed, "replay", self.seen)
        chosen = draw.permutation(len(self.kept))[: self.replayed]
        super().learn([*labels, *(self.kept[int(i)] for i in chosen)])
        for label in labels:
            self.seen += 1
            if len(self.kept) < self.size:
                self.kept.append(label)
            elif (place := int(draw.integers(self.seen))) < self.size:
                self.kept[place] = label

    def state(self) -> Parameters:
        """The reservoir too."""
        found = super().state() | {"replay/seen": torch.tensor(self.seen)}
        if self.kept:
            batch = batched(self.kept)
            found |= {f"replay/{name}": getattr(batch, name) for name in ("x", "y", "mask", "origin")}
        return found

    def restore(self, state: Parameters) -> None:
        """The reservoir too."""
        super().restore({k: t for k, t in state.items() if not k.startswith("replay/")})
        self.seen = int(state["replay/seen"])
        self.kept = []
        if "replay/x" in state:
            parts = [state[f"replay/{name}"] for name in ("origin", "x", "y", "mask")]
            self.kept = [Label(int(o), x, y, mask, None) for o, x, y, mask in zip(*parts, strict=True)]


class Noted(NamedTuple):
    """What a session of Titan-Stream tells of one forecast: scalars, the mean over series.

    Attributes:
        origin: the row of the first target.
        surprise: of the newest chunk, known with the input.
        gate: what is forgotten with a chunk.
        norm: of the memory.
    """

    origin: int
    surprise: float
    gate: float
    norm: float


class Titan(Gradient):
    """Titan-Stream in a session: weights learn from labels, the memory from what it reads.

    Args:
        model: changed in place.
        settings: see OnlineSettings.
        adapt: whether weights learn; the memory does in any case.

    Attributes:
        noted: of the newest forecast.
        error: the error-side surprise, known only after a delay: origin of the newest label and the mean loss of those
            that came with it, by the weights before they are learned from; None where nothing adapts.
    """

    model: TitanStream

    def __init__(self, model: TitanStream, settings: OnlineSettings, adapt: bool = True) -> None:
        super().__init__(model, model.horizon, settings, model.online_groups(settings))
        self.adapt = adapt
        self.noted: Noted | None = None
        self.error: tuple[int, float] | None = None
        # With `life: stream`: the memory that windows meet now, the same after one chunk more, and since when.
        self._carried: MemoryState | None = None
        self._next: MemoryState | None = None
        self._from = 0

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, Any]:
        """[T, N] → [H, N], and the memory that the window met."""
        living = self.model.settings.memory.life == "stream"
        with torch.no_grad():
            moved = living and (self._carried is None or origin - self._from >= self.model.chunk_rows())
            if moved:
                # The chunk that has left the window since then is in the memory from now on.
                self._carried, self._from = self._next or self.model.start(1).detach(), origin
            before = self._carried or self.model.start(1)
            reading = self.model.read(x[None], before)
        if moved:
            self._next = reading.state
        said = reading.written
        told = (value.mean().item() for value in (said.surprise, said.gate, said.norm))
        self.noted = Noted(origin, *told)
        return reading.forecast[0], (tuple(before) if living else None)

    def learn(self, labels: Sequence[Label]) -> None:
        """One step on the three losses, each window with the memory that it met."""
        if self.adapt:
            super().learn(labels)

    def loss(self, labels: Sequence[Label]) -> Tensor:
        """The weighted sum of the three losses."""
        batch = batched(labels)
        losses = losses_of(self._read(batch.x, labels), batch.y, batch.mask, self.model.settings.loss)
        self.error = labels[-1].origin, losses.forecast.item()
        return losses.total

    def _read(self, x: Tensor, labels: Sequence[Label]) -> Reading:
        if self.model.settings.memory.life == "window":
            return self.model.read(x, self.model.start(len(labels)))
        met = [MemoryState(*label.note) for label in labels]
        return self.model.read(x, MemoryState(*(torch.cat(parts) for parts in zip(*met, strict=True))))

    def state(self) -> Parameters:
        """The memory too."""
        found = super().state()
        for name, state in (("now", self._carried), ("next", self._next)):
            if state is not None:
                found |= {f"memory/{name}/{part}": tensor.clone() for part, tensor in state._asdict().items()}
        return found | {"memory/from": torch.tensor(self._from)}

    def restore(self, state: Parameters) -> None:
        """The memory too."""
        super().restore({k: t for k, t in state.items() if not k.startswith("memory/")})
        self._carried, self._next = (
            MemoryState(*(state[f"memory/{name}/{part}"].clone() for part in MemoryState._fields))
            if f"memory/{name}/weight" in state
            else None
            for name in ("now", "next")
        )
        self._from = int(state["memory/from"])
