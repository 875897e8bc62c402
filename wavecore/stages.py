"""The ladder: which stages there are, what each is, and which stands below which. Only this knows the order."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from wavecore.errors import SettingsError


@dataclass(frozen=True)
class Stage:
    """One rung: a value, not a subclass.

    Attributes:
        name: as it stands in params.yaml, in paths and in the UI.
        family: which forecaster `wavecore.model.build` makes for it.
        trained: whether weights are learned; a baseline without any has no training curve.
        seeded: whether the seed changes the result; where it does not, `seed=0` stands for all.
        below: the stage that it is judged against first; None at the bottom.
        description: one line for the UI and the report.
    """

    name: str
    family: str
    trained: bool
    seeded: bool
    below: str | None
    description: str


STAGES: tuple[Stage, ...] = (
    Stage(
        "seasonal_naive", "seasonal_naive", trained=False, seeded=False, below=None,
        description="The value one season ago, repeated: what any model must beat.",
    ),
    Stage(
        "dlinear", "dlinear", trained=True, seeded=True, below="seasonal_naive",
        description="Trend and remainder by a moving average, one linear map each (Zeng et al., AAAI 2023).",
    ),
)  # fmt: skip

_BY_NAME = {stage.name: stage for stage in STAGES}


def names() -> tuple[str, ...]:
    """All stage names, lowest rung first."""
    return tuple(stage.name for stage in STAGES)


def get(name: str) -> Stage:
    """The stage called `name`.

    Raises:
        SettingsError: there is none; the message names the nearest.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    near = difflib.get_close_matches(name, _BY_NAME, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"stages: {', '.join(_BY_NAME)}"
    raise SettingsError(f"there is no stage {name!r}", hint)


def order(name: str) -> int:
    """Position on the ladder, for sorting tables."""
    return names().index(get(name).name)
