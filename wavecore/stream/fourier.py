"""ELF: a frozen forecaster beside a linear one in Fourier space that is solved anew with every label, weighted by their
recent errors (Lee, Toner, Singh, Joosen and Asenov, "Lightweight Online Adaption for Time Series Foundation Model
Forecasts", ICML 2025).

The linear part. A window and what followed it, less the window's mean and over its deviation, go to the real and the
imaginary parts of their lowest frequencies, x [2F] and y [2G]. W [2F, 2G] minimizes |X W − Y|² + λ |W|² over all labels
so far, channels together:

    W = A⁻¹ b,   A = λ I + Xᵀ X,   b = Xᵀ Y
    with new rows U: A⁻¹ ← A⁻¹ − A⁻¹ Uᵀ (I + U A⁻¹ Uᵀ)⁻¹ U A⁻¹   (Woodbury),   b ← b + Uᵀ V

The paper has one complex map of complex frequencies. The mean of a horizon has no imaginary part, and a complex map
must spend itself on making one vanish; it forecasts levels far worse (docs/stream.md).

The weights of the two, per channel. Slow ones are exp(−rate · all errors so far), normed; fast ones take the errors of
the last `recent` labels. The two pairs are weighted in the same way by the errors of what each of them would have
forecast. Errors are mean squares over the horizon.

A regression of few labels, most of which overlap, fits them and nothing else, and what it did then says nothing of what
it does later. So the frozen forecaster stands alone until there are `warm` labels, and weights know the errors of later
forecasts only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavecore.learn.checkpoint import fill
from wavecore.series.normalize import instance_denormalize, instance_normalize, instance_statistics
from wavecore.stream.learners import Frozen, Parameters
from wavecore.stream.session import Label


def warm_labels(window: int) -> int:
    """As many labels as a regression on all frequencies of T steps has unknowns, and 200 at least."""
    return max(200, window)


class Elf(Frozen):
    """A frozen forecaster and the linear one.

    Args:
        model: forecasts a batch; stays as it is.
        window, horizon, channels: T, H and N.
        ridge: λ.
        keep: share of the frequencies of the window, and of the horizon, that are used; the lowest.
        rate: of the weights.
        recent: labels that fast weights look at.
        warm: labels of the regression, before which the frozen forecaster stands alone; None: `warm_labels`.
    """

    def __init__(
        self,
        model: nn.Module,
        window: int,
        horizon: int,
        channels: int,
        ridge: float = 20.0,
        keep: float = 0.9,
        rate: float = 0.5,
        recent: int = 200,
        warm: int | None = None,
    ) -> None:
        super().__init__(model, horizon)
        self.window, self.rate = window, rate
        self.warm = warm_labels(window) if warm is None else warm
        self.solved = 0
        self.known, self.asked = (max(1, round(keep * (n // 2 + 1))) for n in (window, horizon))
        self.inverse = torch.eye(2 * self.known, dtype=torch.float64) / ridge
        self.cross = torch.zeros(2 * self.known, 2 * self.asked, dtype=torch.float64)
        # Errors of (frozen, linear) and of (slow, fast), per channel: all so far, and the recent ones label by label.
        self.total = torch.zeros(2, channels, dtype=torch.float64)
        self.pairs = torch.zeros(2, channels, dtype=torch.float64)
        self.latest: deque[Tensor] = deque(maxlen=recent)

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, Any]:
        """[T, N] → [H, N]; to note: both forecasts and the slow and fast weights [2, N], or None of the frozen one."""
        frozen, _ = super().forecast(x, origin)
        if self.solved < self.warm:
            return frozen, None
        both = torch.stack([frozen.double(), self._linear(x.double())])
        slow, fast = self._weights()
        share = _normed(self.pairs, self.rate)
        weight = share[0] * slow + share[1] * fast
        return (weight[:, None] * both).sum(dim=0).float(), (both, slow, fast)

    def learn(self, labels: Sequence[Label]) -> None:
        """Errors to the weights, windows to the regression."""
        for label in labels:
            if label.note is not None:
                both, slow, fast = label.note
                seen = label.mask.sum(dim=0).clamp(min=1)
                made = torch.stack([both[0], both[1], *((w[:, None] * both).sum(dim=0) for w in (slow, fast))])
                wrong = ((made - label.y) * label.mask).square().sum(dim=1) / seen
                self.total += wrong[:2]
                self.pairs += wrong[2:]
                self.latest.append(wrong[:2])
            # What was not observed cannot be regressed on.
            whole = label.mask.all(dim=0)
            if whole.any():
                self._solve(label.x[:, whole].double(), label.y[:, whole].double())
                self.solved += 1

    def _weights(self) -> tuple[Tensor, Tensor]:
        recent = torch.stack(tuple(self.latest)).sum(dim=0) if self.latest else torch.zeros_like(self.total)
        return _normed(self.total, self.rate), _normed(recent, self.rate)

    def _linear(self, x: Tensor) -> Tensor:
        """[T, N] → [H, N]."""
        mean, std = instance_statistics(x, axis=0)
        rows = self._spectrum(instance_normalize(x, mean, std, axis=0), self.known)
        parts = (rows @ (self.inverse @ self.cross)).unflatten(1, (self.asked, 2))
        ahead = torch.fft.irfft(torch.view_as_complex(parts), n=self.horizon, dim=1)
        return instance_denormalize(ahead.T, mean, std, axis=0)

    def _solve(self, x: Tensor, y: Tensor) -> None:
        """Take in windows [T, M] and what followed them [H, M]."""
        mean, std = instance_statistics(x, axis=0)
        rows = self._spectrum(instance_normalize(x, mean, std, axis=0), self.known)
        ahead = self._spectrum(instance_normalize(y, mean, std, axis=0), self.asked)
        turned = self.inverse @ rows.T
        inner = torch.eye(len(rows), dtype=turned.dtype) + rows @ turned
        inverse = self.inverse - turned @ torch.linalg.solve(inner, turned.T)
        # Symmetric it stays by itself only in exact arithmetic: left alone, rounding grows until nothing is finite.
        self.inverse = (inverse + inverse.T) / 2
        self.cross = self.cross + rows.T @ ahead

    @staticmethod
    def _spectrum(x: Tensor, count: int) -> Tensor:
        """[T, M] → real and imaginary parts of the lowest frequencies, [M, 2·count]."""
        return torch.view_as_real(torch.fft.rfft(x, dim=0)[:count].T).flatten(1)

    def state(self) -> Parameters:
        """Regression and errors."""
        found = {"inverse": self.inverse, "cross": self.cross, "total": self.total, "pairs": self.pairs}
        found = {k: t.clone() for k, t in found.items()} | {"solved": torch.tensor(self.solved)}
        return found | {"latest": torch.stack([*self.latest, self.total * 0])}

    def restore(self, state: Parameters) -> None:
        """Regression and errors as they were.

        Raises:
            StorageError: a part is missing, unknown, or of another shape.
        """
        latest = self.total.new_zeros((len(state.get("latest", ())), *self.total.shape))
        own = self.state() | {"latest": latest}
        fill(own, state, Path("state"))
        self.inverse, self.cross, self.total, self.pairs = (own[k] for k in ("inverse", "cross", "total", "pairs"))
        self.solved = int(own["solved"])
        self.latest = deque(own["latest"][:-1], maxlen=self.latest.maxlen)


def _normed(errors: Tensor, rate: float) -> Tensor:
    """exp(−rate · errors) [K, N], each channel's sum 1."""
    return torch.softmax(-rate * errors, dim=0)
