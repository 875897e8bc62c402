"""Learners by name: each learns what, and as fast as, its settings say."""

from __future__ import annotations

import pytest
import torch
from test_session import LIVING, SHAPE, H, N, T, linear, titan, waves

from wavecore.errors import SettingsError
from wavecore.model.seasonal import SeasonalNaive
from wavecore.stream.learners import Gradient, Replay, Titan
from wavecore.stream.matrix import learner_of, learners_for
from wavecore.stream.session import Label
from wavecore.stream.settings import LEARNERS, OnlineSettings

ONLINE = OnlineSettings(learning_rate=0.01, backbone_scale=0.1)


def speeds(learner: Gradient) -> list[tuple[int, float]]:
    return [(len(group["params"]), group["lr"]) for group in learner.optimizer.param_groups]


def test_replay_of_titan_has_its_speeds_and_its_objective() -> None:
    online = learner_of("online", titan(), SHAPE, ONLINE, 0)
    replay = learner_of("replay", titan(), SHAPE, ONLINE, 0)
    assert isinstance(online, Titan)
    assert isinstance(replay, Replay)
    assert speeds(replay) == speeds(online)
    assert {round(rate, 9) for _, rate in speeds(online)} == {0.001, 0.01}
    values = waves(T + H)
    label = Label(T, values[:T], values[T:], torch.ones(H, N, dtype=torch.bool), None)
    assert replay.loss([label]).item() == pytest.approx(online.loss([label]).item())


def test_a_memory_that_goes_on_is_not_replayed() -> None:
    with pytest.raises(SettingsError, match="life"):
        learner_of("replay", titan(LIVING), SHAPE, ONLINE, 0)


def test_without_weights_there_is_nothing_to_move() -> None:
    naive = SeasonalNaive(T, H, 4)
    assert learners_for(naive, LEARNERS) == ("frozen", "elf")
    with pytest.raises(SettingsError, match="no weights that learn"):
        learner_of("online", naive, SHAPE, ONLINE, 0)
    with pytest.raises(SettingsError, match="no learner 'oracle'"):
        learner_of("oracle", linear(), SHAPE, ONLINE, 0)
