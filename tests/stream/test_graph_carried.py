"""The check before a stream whether a memory drags its graph along: silent on what is right, not on what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_session import LIVING, ONLINE, SMALL, H, N, T, linear, waves
from torch import Tensor

from assets import online_checks
from wavecore.stream import learners
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.settings import StreamSettings


def made(settings: StreamSettings) -> TitanStream:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TitanStream(T, H, N, settings)


def of(settings: StreamSettings, **memory: Any) -> StreamSettings:
    return replace(settings, memory=replace(settings.memory, **memory))


@pytest.mark.parametrize("retrieval", ["map", "linear_attention"])
@pytest.mark.parametrize("high_order", [True, False], ids=["high order", "first order"])
@pytest.mark.parametrize("eta", [0.0, 0.5])
@pytest.mark.parametrize("life", [SMALL, LIVING], ids=["window", "stream"])
def test_silent_on_models_that_are_right(life: StreamSettings, eta: float, high_order: bool, retrieval: str) -> None:
    settings = of(life, eta=eta, high_order=high_order, retrieval=retrieval)
    assert online_checks.graph_carried(made(settings), ONLINE, waves(T)) == ""


def test_nothing_to_say_of_a_model_without_memory() -> None:
    assert online_checks.graph_carried(linear(), ONLINE, waves(T)) == ""


class Careless(learners.Titan):
    """Carries the graph along with the memory."""

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, Any]:
        carried = self._next or self.model.start(1)
        reading = self.model.read(x[None], carried)
        self._carried, self._next = carried, reading.state
        return reading.forecast[0].detach(), tuple(part.detach() for part in carried)


def test_a_learner_that_carries_the_graph_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "Titan", Careless)
    found = online_checks.graph_carried(made(LIVING), ONLINE, waves(T))
    assert found.startswith("a session carries the graph of its memory along (")


@pytest.mark.parametrize("high_order", [True, False], ids=["lost", "kept"])
def test_gradients_of_updates_that_are_not_what_the_settings_say_are_told(
    high_order: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(of(SMALL, high_order=high_order, eta=0.5))
    other = made(of(SMALL, high_order=not high_order, eta=0.5))
    monkeypatch.setattr(model, "_write", other._write)
    found = online_checks.graph_carried(model, ONLINE, waves(T))
    assert ("none of" if high_order else "one of") in found
