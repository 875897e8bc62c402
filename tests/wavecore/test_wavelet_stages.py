"""The wavelet stages in the model, alone and stacked: every one learns, none sees its batch, each begins as `base`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from language import FAMILIES, GEOMETRY, at, batch_of, made
from wavelet_parts import of_stage

from wavecore import stages
from wavecore.config import TrainSettings, settings_from
from wavecore.errors import SettingsError
from wavecore.learn.checkpoint import trainable
from wavecore.learn.curriculum import Loss
from wavecore.learn.forecast import predict
from wavecore.learn.loop import gradients, optimizer_of, update
from wavecore.learn.manifest import frozen_hash
from wavecore.learn.settings import WaveletLossSettings
from wavecore.model import build as build_module
from wavecore.model.groups import declared
from wavecore.model.scales import names
from wavecore.model.settings import TimeLLMSettings
from wavecore.strict import build

LADDER = ("tokens", "loss", "streams", "sparse")
ALONE = tuple(f"only_{name}" for name in LADDER)
VARIANTS = tuple(s.name for s in stages.STAGES if s.root in ALONE and "." in s.name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stage", [*LADDER, *ALONE])
def test_every_stage_trains_one_step_on_every_family(stage: str, family: str, folders: dict[str, Path]) -> None:
    model = of_stage(stage, folders[family])
    before, frozen = {k: p.detach().clone() for k, p in trainable(model).items()}, frozen_hash(model)
    wavelet = WaveletLossSettings(
        enabled=bool(stages.get(stage).train_switches["wavelet_loss"]["enabled"]), high=(1, 1)
    )
    settings = TrainSettings(threads=1, wavelet_loss=wavelet)
    optimizer = optimizer_of(declared(model), settings)
    # Twice: what begins at zero holds back the gradient of what lies before it.
    for step in range(2):
        optimizer.zero_grad()
        loss = gradients(model.train(), batch_of(2), Accelerator(cpu=True), Loss(settings, 12), step)["loss"]
        update(optimizer, Accelerator(cpu=True), settings, 1e-2)
    assert np.isfinite(loss)
    still = {k for k, p in trainable(model).items() if torch.equal(p, before[k])}
    assert not {k for k in still if not k.endswith("key.bias")}
    assert frozen_hash(model) == frozen


@pytest.mark.parametrize("stage", VARIANTS)
def test_every_variant_trains_one_step(stage: str, folders: dict[str, Path]) -> None:
    model = of_stage(stage, folders["bert"])
    before = {k: p.detach().clone() for k, p in trainable(model).items()}
    said = {**stages.get(stage).train_switches["wavelet_loss"], "high": (0.5, 1.0)}
    settings = TrainSettings(threads=1, wavelet_loss=WaveletLossSettings(**said))
    optimizer = optimizer_of(declared(model), settings)
    for step in range(2):
        optimizer.zero_grad()
        gradients(model.train(), batch_of(2), Accelerator(cpu=True), Loss(settings, 12), step)
        update(optimizer, Accelerator(cpu=True), settings, 1e-2)
    still = {k for k, p in trainable(model).items() if torch.equal(p, before[k])}
    assert not {k for k in still if not k.endswith(("key.bias", "attend.in_proj_bias"))}


@pytest.mark.parametrize("stage", [*LADDER, *ALONE, *VARIANTS, "llm_to_attention"])
def test_a_forecast_depends_on_no_other_window_of_its_batch(stage: str, folders: dict[str, Path]) -> None:
    model, batch = of_stage(stage, folders["gpt2"]).eval(), batch_of(5)
    if stage == "only_sparse.threshold":
        batch.x[3, :40] *= 0.01
        assert len(model.needed(batch.x).unique()) > 1, "windows of one need would prove nothing"
    whole = predict(model, batch)
    torch.testing.assert_close(predict(model, at(batch, 3, 1)), whole[[3, 1]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stage", ["tokens", "streams"])
def test_the_fast_path_equals_the_plain_one(stage: str, family: str, folders: dict[str, Path]) -> None:
    cached = of_stage(stage, folders[family])
    # The same weights, in one pass over prompt and tokens.
    plain = build_module._time_llm(GEOMETRY, replace(cached.settings, computation="plain"), 0)
    plain.load_state_dict(cached.state_dict())
    batch, found = batch_of(3), []
    for model in (cached.eval(), plain.eval()):
        forecast = model(batch)
        model.zero_grad()
        forecast.square().mean().backward()
        found.append((forecast.detach(), {name: p.grad for name, p in trainable(model).items()}))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    for name, gradient in found[0][1].items():
        assert gradient is not None
        torch.testing.assert_close(gradient, found[1][1][name], rtol=1e-3, atol=1e-4, msg=name)


def test_stages_begin_with_the_weights_of_base(folders: dict[str, Path]) -> None:
    """What differs at the start is what a stage adds, so that stages are compared and not draws."""
    base = trainable(made("base", folders["bert"], tokens={"block": 4}))
    for stage in ("tokens", "loss", "streams", "sparse", *ALONE):
        own = trainable(of_stage(stage, folders["bert"]))
        assert set(base) <= set(own)
        assert all(torch.equal(own[k], p) for k, p in base.items())
        assert all(k.startswith("wavelets.") for k in own.keys() - base.keys())
        places = of_stage(stage, folders["bert"]).state_dict(keep_vars=True).values()
        assert len({id(tensor) for tensor in places}) == len(places), "every part has one place"


def test_keys_and_values_of_both_streams_are_dropped_when_weights_change(folders: dict[str, Path]) -> None:
    model, batch = of_stage("only_streams", folders["bert"]).eval(), batch_of(2)
    before = predict(model, batch)
    assert model.streams is not None
    with torch.no_grad():
        model.streams.fast.value.bias.add_(1.0)
    assert not np.array_equal(predict(model, batch), before)


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"budget": {"enabled": True}, "tokens": {"enabled": True}}, "budget: not together with tokens"),
        ({"budget": {"enabled": True}, "sparse": {"enabled": True}}, "budget: not together with sparse"),
        ({"streams": {"enabled": True}, "tokens": {"enabled": True, "fusion": "mean"}}, "of no one scale"),
        ({"streams": {"enabled": True}, "prototypes": 1}, "2 prototypes"),
        ({"sparse": {"enabled": True}, "computation": "plain"}, "positions travel"),
        ({"tokens": {"block": 0}}, "block"),
        ({"tokens": {"levels": -1}}, "levels"),
        ({"tokens": {"least_share": 1.0}}, "least_share"),
        ({"tokens": {"fusion": "sum"}}, "concatenate"),
        ({"streams": {"slow_share": 0.0}}, "slow_share"),
        ({"streams": {"fastest": -1}}, "fastest"),
        ({"sparse": {"share": 0.0}}, "share"),
        ({"sparse": {"count": 0}}, "count"),
        ({"sparse": {"threshold": -1.0}}, "threshold"),
        ({"sparse": {"dominant": 0.0}}, "dominant"),
    ],
)
def test_settings_that_make_no_sense_are_named(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        build(TimeLLMSettings, wrong, "params.yaml: stages.x.model")


def test_names_of_bands() -> None:
    assert names("dwt", 2) == ("A2", "D2", "D1")
    assert names("packet", 2) == ("P0", "P1", "P2", "P3")


def test_a_switch_cannot_be_set_for_all_or_for_the_family() -> None:
    def read(train: Any = None, **family: Any) -> Any:
        pipeline = {"benchmarks": ["x"], "stages": ["base"]}
        settings = settings_from({"pipeline": pipeline, "train": train, "families": {"time_llm": family}})
        return settings.train_of("x", "only_sparse"), settings.model_of("x", "only_sparse", TimeLLMSettings)

    assert read({"wavelet_loss": {"looks": 3}})[0].wavelet_loss.looks == 3
    for wrong, named in (
        ({"train": {"wavelet_loss": {"enabled": True}}}, r"train\.wavelet_loss\.enabled"),
        ({"model": {"sparse": {"keep": "count"}}}, r"sparse\.keep"),
    ):
        with pytest.raises(SettingsError, match=named):
            read(**wrong)
    with pytest.raises(SettingsError, match=r"wavelet_loss\.enabled"):
        read(train={"wavelet_loss": {"enabled": True}})
