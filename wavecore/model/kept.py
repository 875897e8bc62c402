"""Constants computed once and kept until what they were computed from changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class _State(NamedTuple):
    """What changes whenever one of some weights does: in place, replaced, moved or cast; and the autocast in force.

    It holds the weights themselves, so that no other weight can come to lie where one of them lay.
    """

    weights: tuple[Tensor, ...]
    marks: tuple[tuple[object, ...], ...]
    mixed: torch.dtype | None
    key: object

    def same(self, other: _State) -> bool:
        alike = len(self.weights) == len(other.weights)
        alike = alike and all(a is b for a, b in zip(self.weights, other.weights, strict=True))
        return alike and self.marks == other.marks and self.mixed == other.mixed and self.key == other.key


class Kept(Generic[T]):
    """One value that depends on weights alone.

    It belongs to no checkpoint, and a copied model begins without it.
    """

    def __init__(self) -> None:
        self._found: tuple[_State, T] | None = None

    def get(self, weights: Iterable[Tensor], make: Callable[[], T], key: object = None) -> T:
        """The value; `make` is called where there is none or one of `weights`, `key` or the autocast has changed."""
        state, found = _state(tuple(weights), key), self._found
        if found is None or not state.same(found[0]):
            # Made as ordinary tensors, whoever asks first: training may read what a forecast has computed.
            with torch.inference_mode(False), torch.no_grad():
                found = (state, make())
            self._found = found
        return found[1]

    def drop(self) -> None:
        """Forget it."""
        self._found = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Kept[T]:
        return Kept()


def _state(weights: tuple[Tensor, ...], key: object) -> _State:
    kind = weights[0].device.type
    mixed = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    # Tensors made in inference mode count no versions; they cannot be written to outside of it either.
    marks = tuple((w.data_ptr(), 0 if w.is_inference() else w._version, w.dtype) for w in weights)
    return _State(weights, marks, mixed, key)
