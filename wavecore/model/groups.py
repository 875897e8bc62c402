"""Parameter groups, declared by the modules themselves and never guessed from names.

A forecaster's `parameter_groups()` says which of its weights learn together and how fast. `declared` checks the
promise: every trainable weight stands in exactly one group, and no group is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from torch import nn

from wavecore.errors import TrainingError


@dataclass(frozen=True, eq=False)
class ParameterGroup:
    """Weights that share a learning rate.

    Attributes:
        name: as it stands in metadata, such as "trend" or "head".
        parameters: the weights.
        learning_rate_scale: factor on the run's learning rate.
        decay: whether the run's weight decay applies.
    """

    name: str
    parameters: tuple[nn.Parameter, ...]
    learning_rate_scale: float = 1.0
    decay: bool = True

    @property
    def tensors(self) -> int:
        """Number of weight tensors."""
        return len(self.parameters)

    @property
    def elements(self) -> int:
        """Number of single weights."""
        return sum(p.numel() for p in self.parameters)


@runtime_checkable
class DeclaresGroups(Protocol):
    """A module that declares its parameter groups."""

    def parameter_groups(self) -> tuple[ParameterGroup, ...]: ...


@runtime_checkable
class DeclaresParts(Protocol):
    """A module that says which parts its weights make up."""

    def weight_parts(self) -> tuple[Part, ...]: ...


def declared(model: nn.Module) -> tuple[ParameterGroup, ...]:
    """The parameter groups of `model`, checked; () where it has no trainable weights.

    Raises:
        TrainingError: no groups declared, an empty group, a name used twice, a frozen weight in a group, or a
            trainable weight in none or in several; the message names it.
    """
    if not isinstance(model, DeclaresGroups):
        raise TrainingError(
            f"{type(model).__name__} declares no parameter groups", "give it a method parameter_groups()"
        )
    groups = tuple(model.parameter_groups())
    names = {id(p): name for name, p in model.named_parameters()}
    seen: dict[int, str] = {}
    for group in groups:
        if [g.name for g in groups].count(group.name) > 1:
            raise TrainingError(f"two parameter groups are called {group.name!r}", "give each a name of its own")
        if not group.parameters:
            raise TrainingError(f"parameter group {group.name!r} is empty", "declare it only where it has weights")
        for parameter in group.parameters:
            name = names.get(id(parameter), "a weight of another model")
            if id(parameter) not in names or not parameter.requires_grad:
                raise TrainingError(
                    f"parameter group {group.name!r} holds {name}, which is not trainable here",
                    "leave frozen and foreign weights out of the groups",
                )
            if id(parameter) in seen:
                raise TrainingError(
                    f"{name} stands in the parameter groups {seen[id(parameter)]!r} and {group.name!r}",
                    "declare each weight in exactly one group",
                )
            seen[id(parameter)] = group.name
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in seen:
            raise TrainingError(f"{name} is trainable but in no parameter group", "declare it in one, or freeze it")
    return groups


def counts(model: nn.Module) -> dict[str, dict[str, int]]:
    """Tensor and element counts of each group of `model` and of its frozen weights, for metadata."""
    table = {g.name: {"tensors": g.tensors, "elements": g.elements} for g in declared(model)}
    frozen = [p for p in model.parameters() if not p.requires_grad]
    table["frozen"] = {"tensors": len(frozen), "elements": sum(p.numel() for p in frozen)}
    return table


class Part(NamedTuple):
    """One part of a model and how many single weights of it learn and do not."""

    name: str
    trainable: int
    frozen: int


def part(name: str, *modules: nn.Module) -> Part:
    """The weights of some modules as one part."""
    weights = [p for module in modules for p in module.parameters()]
    learns = sum(p.numel() for p in weights if p.requires_grad)
    return Part(name, learns, sum(p.numel() for p in weights) - learns)


def parts(model: nn.Module) -> tuple[Part, ...]:
    """Trainable and frozen weights per part of `model` (R12); a model may say itself what its parts are."""
    if isinstance(model, DeclaresParts):
        return model.weight_parts()
    return tuple(part(name.replace("_", " "), child) for name, child in model.named_children())
