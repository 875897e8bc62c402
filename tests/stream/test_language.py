"""Titan-Stream on the states of a frozen language model: they are those of the Time-LLM side, what is frozen stays, and
a session and a bad setting are as with raw patches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from language import GEOMETRY, SMALL, batch_of, made, save
from torch import Tensor

from wavecore import stages
from wavecore.config import PipelineSettings, Settings, StageOverride
from wavecore.errors import SettingsError
from wavecore.learn.checkpoint import saved
from wavecore.learn.manifest import frozen_hash
from wavecore.model.build import build
from wavecore.model.groups import declared
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.learners import Titan
from wavecore.stream.session import Session, Shape
from wavecore.stream.settings import OnlineSettings
from wavecore.strict import merged

TITAN = {"d_model": 8, "heads": 2, "patch": 8, "persistent": 2}
SHAPE = Shape(GEOMETRY.window, GEOMETRY.horizon, GEOMETRY.channels)
FAST = OnlineSettings(learning_rate=0.01)


@pytest.fixture(scope="module", params=["bert", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp(request.param), request.param)


def reader(folder: Path, name: str = "titan.language", seed: int = 0, **more: Any) -> TitanStream:
    language = {k: v for k, v in SMALL.items() if k != "prompt"} | {"backbone": str(folder), "prompt": {"tokens": 192}}
    own = StageOverride(model=merged({**TITAN, "language": language}, more))
    settings = Settings(pipeline=PipelineSettings(benchmarks=("x",), stages=("titan",)), stages={"titan": own})
    found = build(stages.get(name), GEOMETRY, settings, "x", seed)
    assert isinstance(found, TitanStream)
    return found.eval()


def test_the_states_are_what_a_time_llm_model_forecasts_from(folder: Path) -> None:
    model = made("base.static_prompt", folder).eval()
    batch = batch_of(3)
    with torch.no_grad():
        states, trace = model.states(batch.x), model.trace(batch.x)
        mean, std = model.normalized(batch.x)[1:]
        ahead = model.head(states).view(3, len(GEOMETRY.channels), -1).transpose(1, 2)
    assert states.shape == (9, model.patches, SMALL["d_ff"])
    torch.testing.assert_close(ahead * std[:, None] + mean[:, None], trace.forecast)


def test_it_reads_them_and_learns_all_but_the_language_model(folder: Path) -> None:
    model = reader(folder).train()
    assert model.tokens == model.language.count == 8  # of 64 rows: 16 in a patch, 8 apart, the last row repeated
    frozen = frozen_hash(model)
    model.objective(batch_of(4))["loss"].backward()
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not without
    assert any(name.startswith("language.model.patch_embedding") for name in learned)
    assert any(name.startswith("language.model.reprogramming") for name in learned)
    assert not any("backbone" in name or "head" in name for name in learned if name.startswith("language"))
    grouped = [id(p) for group in declared(model) for p in group.parameters]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    assert frozen_hash(model) == frozen


def test_a_forecast_depends_neither_on_the_batch_nor_on_its_order(folder: Path) -> None:
    model, batch = reader(folder), batch_of(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        together = model(batch)
        mixed = model(batch._replace(x=batch.x[order]))
        alone = torch.cat([model(batch._replace(x=batch.x[i : i + 1])) for i in range(5)])
    torch.testing.assert_close(mixed, together[order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


def pushed(model: TitanStream, online: OnlineSettings, rows: int) -> list[Tensor]:
    """Forecasts of a session, the last one after every label that it learns from."""
    session = Session(Titan(model, online), SHAPE, online)
    waves = torch.sin(torch.arange(rows)[:, None] / torch.tensor([3.0, 5.0, 8.0]))
    return [ahead for row in waves if (ahead := session.push(row)) is not None]


@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_in_a_session_it_learns_as_fast_as_the_backbone(folder: Path, scale: float) -> None:
    """Forecasts after a step are of the weights after it: nothing computed before is kept too long."""
    model = reader(folder)
    before = {name: tensor.clone() for name, tensor in saved(model).items()}
    frozen = frozen_hash(model)
    told = pushed(model, replace(FAST, backbone_scale=scale), SHAPE.window + SHAPE.horizon + 4)
    moved = {name for name, tensor in saved(model).items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("head.") for name in moved)
    assert any(name.startswith("language.") for name in moved) == (scale > 0)
    assert frozen_hash(model) == frozen
    # A second model with the weights as they now are, and nothing kept.
    fresh = reader(folder, seed=1)
    fresh.load_state_dict(model.state_dict())
    session = Session(Titan(fresh, FAST), SHAPE, FAST)
    waves = torch.sin(torch.arange(SHAPE.window + SHAPE.horizon + 4)[:, None] / torch.tensor([3.0, 5.0, 8.0]))
    last = [session.push(row) for row in waves[-SHAPE.window :]][-1]
    assert last is not None
    torch.testing.assert_close(told[-1], last, rtol=1e-5, atol=1e-5)


def test_the_arms_of_the_ablation_learn_as_many_weights_and_differ(folder: Path) -> None:
    arms = {name: reader(folder, name) for name in ("titan.language", "titan.random_language", "titan.no_language")}
    shapes = [{name: p.shape for name, p in model.named_parameters() if p.requires_grad} for model in arms.values()]
    assert shapes[0] == shapes[1] == shapes[2]
    with torch.no_grad():
        told = [model(batch_of(2)) for model in arms.values()]
    assert not any(torch.allclose(a, b) for i, a in enumerate(told) for b in told[:i])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"language": {"budget": {"enabled": True}}}, "budget"),
        ({"language": {"sparse": {"enabled": True}}}, "sparse"),
        ({"language": {"skip": "linear"}}, "skip"),
        ({"language": {"prototype_rate": 2.0}}, "prototype_rate"),
        ({"memory": {"chunk": 9}}, "model.memory.chunk: 9 tokens, but a window of 64 rows has 8, one in 8 rows"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        reader(folder, **more)
