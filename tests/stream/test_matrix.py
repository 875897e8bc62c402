"""Learners by name: each learns what, and as fast as, its settings say."""

from __future__ import annotations

import pytest
import torch
from test_session import LIVING, SHAPE, H, N, T, linear, titan, waves

from wavecore import stages
from wavecore.config import Settings, settings_from
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


def test_a_variant_that_is_defined_by_how_it_learns_has_its_own_way() -> None:
    """Whatever its stage's is, and only what it is defined by; params.yaml may not set it otherwise."""

    def settings(**own: object) -> Settings:
        overrides = {"titan": {"online": {"every": 8, "backbone_scale": 0.2}}, **own}
        return settings_from(
            {
                "pipeline": {"benchmarks": ["tiny"], "stages": ["titan"]},
                "online": {"delay": {"steps": 3, "seed": 5}},
                "stages": {"titan": {}},
                "overrides": {"benchmarks": {"tiny": overrides}},
            }
        )

    plain = settings()
    assert plain.online_of("tiny", "titan").every == 8
    rarely = plain.online_of("tiny", "titan.every_4")
    assert (rarely.every, rarely.backbone_scale) == (4, 0.2)
    assert plain.online_of("tiny", "titan.one_speed").backbone_scale == 1.0
    assert plain.online_of("tiny", "titan.tuned_persistent").persistent_lr_scale == 0.01
    late = plain.online_of("tiny", "titan.late").delay
    assert (late.kind, late.steps, late.seed) == ("geometric", 24, 5)
    with pytest.raises(SettingsError, match=r"'titan\.every_4' is a variant"):
        settings(**{"titan.every_4": {"online": {"every": 2}}})


def test_what_differs_in_the_stream_alone_has_the_weights_of_its_stage() -> None:
    root = stages.get("titan")
    for one in stages.STAGES:
        alone = bool(one.online_switches)
        assert one.trained_as == (one.root if alone else one.name)
        if alone:
            assert (one.switches, one.train_switches) == (root.switches, root.train_switches)
