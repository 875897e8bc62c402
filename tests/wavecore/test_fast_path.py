"""What is computed once, or by another way, is what would have been computed plainly."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from language import FAMILIES, GEOMETRY, batch_of, made, window_data

from wavecore.bench.models import plain_twin
from wavecore.errors import SettingsError
from wavecore.learn.forecast import forecast, predict
from wavecore.model import attention, frozen
from wavecore.model import backbone as language
from wavecore.model.attention import Prefix, Reading, attend, dot_product, weights_of
from wavecore.model.frozen import Backbone
from wavecore.model.layers import Reprogramming
from wavecore.model.settings import TimeLLMSettings
from wavecore.model.time_llm import TimeLLM, Use

STAGES = ("base", "prompt", "base.static_prompt")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stage", STAGES)
def test_cached_equals_plain(family: str, stage: str, folders: dict[str, Path]) -> None:
    """Forecasts to 1e-5, gradients to 1e-4 (float32), with prompts of several lengths in one batch."""
    cached = made(stage, folders[family], dropout=0.0)
    plain, batch = plain_twin(cached, str(folders[family]), GEOMETRY), batch_of(5)
    if stage != "base.static_prompt":
        assert len({len(p.ids) for p in cached.prompts(batch.x)}) > 1, "prompts of one length would prove little"
    for model in (cached, plain):
        model.train()
        model(batch).square().sum().backward()
    np.testing.assert_allclose(predict(cached, batch), predict(plain, batch), atol=1e-5)
    theirs = dict(plain.named_parameters())
    for name, parameter in cached.named_parameters():
        if parameter.requires_grad:
            scale = float(theirs[name].grad.abs().max())  # type: ignore[union-attr]
            torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-4 * max(1.0, scale), rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_matters(family: str, folders: dict[str, Path]) -> None:
    """Else the test above would hold for a prefix that nobody reads."""
    model, batch = made("base", folders[family]), batch_of(3)
    with torch.no_grad():
        model.eval()
        whole = model.trace(batch.x).forecast
        none = torch.zeros((model.backbone.layers, 200), dtype=torch.bool)  # type: ignore[union-attr]
        unread = model.trace(batch.x, use=Use(model.patches, none)).forecast
    assert float((whole - unread).abs().max()) > 1e-4


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_layers_of_a_prefix_are_those_of_the_whole(family: str, folders: dict[str, Path]) -> None:
    backbone = Backbone(language.pretrained(language.find(str(folders[family])), 3), hooked=True)
    ids = torch.randint(3, 60, (4, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([9, 5, 7, 9])[:, None]
    shared = backbone.prefix(ids[:1])
    whole, part = backbone.prefix(ids, mask, shared), backbone.prefix(ids, mask, shared, layers=2)
    for layer in range(2):
        torch.testing.assert_close(part.keys[layer], whole.keys[layer], rtol=0, atol=0)
        torch.testing.assert_close(part.values[layer], whole.values[layer], rtol=0, atol=0)
    assert part.keys[2].shape[2] == 0
    assert whole.length.tolist() == [9, 5, 7, 9]
    assert backbone.transformer.config.num_hidden_layers == 3


@pytest.mark.parametrize("family", FAMILIES)
def test_given_prompts_are_seen_by_the_same_layers_as_own_ones(family: str, folders: dict[str, Path]) -> None:
    model, x = made("base", folders[family]), batch_of(1).x[:, :, :1]
    ids = torch.tensor([model.prompts(x)[0].ids])
    told = torch.ones((model.backbone.layers, ids.shape[1]), dtype=torch.bool)  # type: ignore[union-attr]
    told[1:, 10:] = False
    with torch.no_grad():
        model.eval()
        own = model.trace(x, use=Use(model.patches, told)).forecast
        given = model.trace(x, prompt_ids=ids, use=Use(model.patches, told)).forecast
        whole = model.trace(x, prompt_ids=ids).forecast
    if model.backbone.causal:  # type: ignore[union-attr]
        # In an encoder given ids are one block, own ones two: what is the same for all, and the facts.
        torch.testing.assert_close(given, own, atol=1e-5, rtol=1e-5)
    assert float((whole - given).abs().max()) > 1e-5


def test_no_activation_is_written_out_in_steps(folders: dict[str, Path]) -> None:
    """GPT-2's, as transformers has it, took two thirds of a forecast; the plain way keeps it."""
    gelu = torch.randn((4, 8), generator=torch.Generator().manual_seed(0))
    hooked, plain = (
        Backbone(language.pretrained(language.find(str(folders["gpt2"])), 1), hooked=fast) for fast in (True, False)
    )
    acts = [b.transformer.h[0].mlp.act for b in (hooked, plain)]
    assert isinstance(acts[0], torch.nn.GELU)
    assert not isinstance(acts[1], torch.nn.GELU)
    torch.testing.assert_close(acts[0](gelu), acts[1](gelu))


def test_prefixes_join_and_thin_out() -> None:
    def prefix(series: int, width: int, mask: bool) -> Prefix:
        draw = torch.Generator().manual_seed(width)
        keys = tuple(torch.randn((series, 2, width, 3), generator=draw) for _ in range(2))
        seen = torch.rand((series, width), generator=draw) > 0.3 if mask else None
        return Prefix(keys, keys, (seen, seen), torch.full((series,), width))

    one, many = prefix(1, 4, False), prefix(3, 5, True)
    both = one.before(many)
    assert both.keys[0].shape == (3, 2, 9, 3)
    assert both.length.tolist() == [9, 9, 9]
    torch.testing.assert_close(both.keys[1][2, :, :4], one.keys[1][0])
    assert bool(both.masks[0][:, :4].all())  # type: ignore[index]
    told = torch.ones((2, 20), dtype=torch.bool)
    told[1, 1:8] = False
    fewer = both.chosen(told)
    assert [k.shape[2] for k in fewer.keys] == [9, 2]
    torch.testing.assert_close(fewer.keys[1], both.keys[1][:, :, [0, 8]])
    assert fewer.length.tolist() == both.length.tolist()


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_attend_equals_a_naive_loop(causal: bool, counted: bool) -> None:
    """A token that counts as n is n tokens of the same key and value."""
    draw = torch.Generator().manual_seed(0)
    query, (key, value) = torch.randn((2, 4, 5, 3), generator=draw), torch.randn((2, 2, 2, 5, 3), generator=draw)
    prefix_keys, prefix_values = torch.randn((2, 2, 2, 6, 3), generator=draw)
    seen = torch.tensor([[True] * 6, [True, True, False, True, False, False]])
    own = torch.tensor([[True] * 5, [True, True, True, False, False]])
    counts = torch.tensor([[1, 3, 2, 1, 1], [2, 1, 1, 4, 5]]) if counted else torch.ones((2, 5), dtype=torch.int64)
    prefix = Prefix((prefix_keys,), (prefix_values,), (seen,), seen.sum(-1))
    reading = Reading(prefix, own, causal, counts.float() if counted else None, kept=[], weights=[])
    layer = type("Layer", (), {"layer_idx": 0})()
    found, _ = attend(layer, query, key, value, None, scaling=0.5, reading=reading)
    for m in range(2):
        for h in range(4):
            for i in range(5):
                keys = torch.cat([prefix_keys[m, h // 2], key[m, h // 2]])
                values = torch.cat([prefix_values[m, h // 2], value[m, h // 2]])
                allowed = torch.cat([seen[m], own[m] & (torch.arange(5) <= i if causal else torch.ones(5).bool())])
                times = torch.cat([torch.ones(6, dtype=torch.int64), counts[m]]) * allowed
                weights = torch.softmax((keys.repeat_interleave(times, 0) @ query[m, h, i]) * 0.5, 0)
                torch.testing.assert_close(found[m, i, h], weights @ values.repeat_interleave(times, 0))
    assert reading.kept is not None
    assert reading.kept[0][0] is key
    assert reading.weights is not None
    torch.testing.assert_close(reading.weights[0].sum(-1), torch.ones(2, 4, 5))


@pytest.mark.parametrize("queries", [3, attention.QUERIES, attention.QUERIES + 7])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("boolean", [False, True])
def test_both_ways_of_attention_are_the_same(
    queries: int, gradient: bool, boolean: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn((2, n, 8), generator=draw).requires_grad_(gradient) for n in (queries, 30, 30))
    mask = torch.rand((2, 1, 30), generator=draw) > 0.2
    mask = mask if boolean else torch.randn((2, 1, 30), generator=draw).masked_fill(~mask, torch.finfo().min)
    fused = dot_product(query, key, value, mask, 0.3)
    monkeypatch.setattr(attention, "written_out", lambda _: True)
    products = dot_product(query, key, value, mask, 0.3)
    torch.testing.assert_close(products, fused, atol=1e-6, rtol=1e-5)
    if gradient:
        mine = torch.autograd.grad(products.sin().sum(), (query, key, value))
        theirs = torch.autograd.grad(fused.sin().sum(), (query, key, value))
        for a, b in zip(mine, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(weights_of(query, key, mask, None).sum(-1), torch.ones(2, queries))


def test_how_often_a_token_counts_is_not_rounded_to_bf16() -> None:
    """bf16 knows no number between 4.59 and 4.625, but log 100 is 4.605: the token would count as 99."""
    counts = torch.tensor([[100.0, 1.0, 1.0]])
    query = torch.zeros((1, 1, 3, 8), dtype=torch.bfloat16)
    mask = Reading(counts=counts).mask(0, 3, query)
    found = weights_of(query, query, mask, None).float()
    assert found.shape == (1, 1, 3, 3)
    torch.testing.assert_close(found[0, 0, 0, 1], torch.tensor(1 / 102), atol=0, rtol=4e-3)
    assert Reading(counts=counts).mask(0, 3, query.float()).dtype == torch.float32  # type: ignore[union-attr]


def test_plain_products_are_taken_in_bf16_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    fused: list[int] = []
    real = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: fused.append(1) or real(*a, **k))
    x = torch.randn(1, 4, 8)
    dot_product(x, x, x)
    assert len(fused) == 1
    dot_product(x.bfloat16(), x.bfloat16(), x.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dot_product(x, x, x).dtype == torch.bfloat16
    assert len(fused) == 1


def test_layers_made_for_the_other_way_are_refused(folders: dict[str, Path]) -> None:
    """Run plainly, hooked layers would see no mask; run behind a prefix, others would not see the prompt."""
    model = made("base", folders["gpt2"])
    assert model.backbone is not None
    with pytest.raises(TypeError, match=r"Backbone\.read"):
        model.backbone(torch.zeros(1, 3, model.words.shape[1]))
    for hooked in (True, False):
        frozen_layers = Backbone(language.pretrained(language.find(str(folders["gpt2"])), 2), hooked=hooked)
        settings = dataclasses.replace(model.settings, computation="plain" if hooked else "cached")
        with pytest.raises(SettingsError, match="made for the other way"):
            TimeLLM(64, 12, (16, 8), settings, frozen_layers.words, frozen_layers, model.prompter)


def test_prompts_that_do_not_begin_alike_are_refused(folders: dict[str, Path]) -> None:
    model = made("base", folders["bert"])
    model.prompter.fixed_ids = (*model.prompter.fixed_ids[:-1], 5)  # type: ignore[union-attr]
    with pytest.raises(SettingsError, match="joins the end of the task"):
        predict(model, batch_of(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_near_float32(family: str, folders: dict[str, Path]) -> None:
    model, batch = made("base", folders[family]), batch_of(4)
    exact, low = predict(model, batch), predict(model, batch, "bf16")
    spread = float(batch.x.std())
    assert 0 < np.abs(exact - low).max() < 0.05 * spread
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    np.testing.assert_array_equal(predict(model, batch), exact)


def test_the_frozen_model_is_cast_once(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = frozen._cast
    monkeypatch.setattr(frozen, "_cast", lambda *a: calls.append(1) or real(*a))
    model, batch = made("base", folders["llama"]), batch_of(2)
    first = predict(model, batch, "bf16")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(batch).sum().backward()
    assert len(calls) == 1
    with torch.no_grad():
        next(iter(model.backbone.transformer.layers[0].mlp.parameters())).mul_(2)  # type: ignore[union-attr]
    assert not np.array_equal(predict(model, batch, "bf16"), first)
    assert len(calls) == 2


def test_description_and_task_are_read_once(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once per pass of forecasts, not once a batch; again when a frozen weight changes."""
    model, data = made("base", folders["bert"]), window_data()
    calls: list[bool] = []
    real = Backbone.prefix
    monkeypatch.setattr(
        Backbone, "prefix", lambda self, ids, mask=None, before=None, layers=None: (
            calls.append(before is None) or real(self, ids, mask, before, layers)
        ),
    )  # fmt: skip

    def forecasts() -> np.ndarray:
        return np.concatenate([ahead for _, ahead in forecast(model, data, np.arange(64, 124, 6), 3)])

    first = forecasts()
    assert calls.count(True) == 1
    assert calls.count(False) == 4
    with torch.no_grad():
        model.backbone.words.mul_(1.5)  # type: ignore[union-attr]
    assert not np.array_equal(forecasts(), first)
    assert calls.count(True) == 2


def test_what_forecasts_keep_does_not_break_training(folders: dict[str, Path]) -> None:
    model, batch = made("base", folders["gpt2"]).train(), batch_of(2)
    with torch.inference_mode():
        model(batch)
    model(batch).sum().backward()
    assert model.head.linear.weight.grad is not None


def _saved_bytes(model: TimeLLM, batch: Any) -> int:
    """Bytes that a training step keeps for its backward pass, beside weights."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    kept = []  # alive until the end, so that no storage takes the place of another
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or note(t), lambda t: t):
        model.train()(batch)
    return sum(seen.values())


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_cached_prompt_keeps_nothing_for_the_backward_pass(family: str, folders: dict[str, Path]) -> None:
    cached = made("base", folders[family], dropout=0.0)
    plain, batch = plain_twin(cached, str(folders[family]), GEOMETRY), batch_of(4)
    assert _saved_bytes(cached, batch) < 0.5 * _saved_bytes(plain, batch)


def test_prototypes_begin_as_standardized_words(folders: dict[str, Path]) -> None:
    model = made("base", folders["bert"])
    words = model.words.detach()
    standard = (words - words.mean(0)) / words.std(0)
    distance = torch.cdist(model.prototypes().detach(), standard, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distance.argmin(dim=1)
    assert float(distance.min(dim=1).values.max()) < 1e-4
    assert len(set(nearest.tolist())) == model.settings.prototypes
    with pytest.raises(SettingsError, match=r"prototypes: .* words to begin them with"):
        made("base", folders["bert"], prototypes=100_000)


def test_tokens_begin_at_the_size_of_words(folders: dict[str, Path]) -> None:
    batch = batch_of(3)
    for stage, near in (("base", True), ("base.published_start", False)):
        model = made(stage, folders["bert"]).eval()
        size = model.trace(batch.x).reprogrammed.detach().square().mean().sqrt() / model.words.square().mean().sqrt()
        assert (0.9 < float(size) < 1.1) == near


@pytest.mark.parametrize(("share", "dropped"), [(0.0, 0), (0.4, 6), (0.999, 15)])
def test_dropping_prototypes_drops_whole_ones(share: float, dropped: int) -> None:
    """A step sees a part of the prototypes, always the same number, others each time; one is always left."""
    layer = Reprogramming(8, 8, 2, 32, share, "prototypes").train()
    without = []
    for step in range(3):
        torch.manual_seed(step)
        keys, values = (torch.randn(16, 2, 8, requires_grad=True) for _ in range(2))
        layer(torch.randn(5, 4, 8), keys, values).square().sum().backward()
        without.append((values.grad.abs().sum(dim=(1, 2)) == 0).tolist())  # type: ignore[union-attr]
    assert [sum(w) for w in without] == [dropped] * 3
    assert dropped == 0 or without[0] != without[1]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"attention_mask": False}, "computation: cached needs attention_mask: true; set `computation: plain`"),
        ({"frozen_mode": "train"}, "computation: cached needs frozen_mode: eval"),
        ({"attention_outputs": True}, "computation: cached needs attention_outputs: false"),
        ({"computation": "plain", "attention_mask": False}, "prompt_attention: prefix needs attention_mask: true"),
        ({"query_std": -1.0}, "query_std"),
        ({"prototype_rate": 0.0}, "prototype_rate"),
    ],
)
def test_settings_that_contradict_each_other(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TimeLLMSettings(**wrong)


def test_a_backbone_that_cannot_be_hooked(folders: dict[str, Path]) -> None:
    transformer = language.pretrained(language.find(str(folders["bert"])), 1)
    transformer._supports_attention_backend = False
    with pytest.raises(SettingsError, match="takes no attention function from outside") as raised:
        Backbone(transformer, hooked=True)
    assert "computation: plain" in str(raised.value)


def test_an_encoder_with_full_attention_cannot_be_cached(folders: dict[str, Path]) -> None:
    from wavecore import stages
    from wavecore.config import PipelineSettings, Settings, StageOverride
    from wavecore.model.build import build

    stage = stages.Stage("x", "time_llm", True, True, None, "")
    for family, fails in (("bert", True), ("gpt2", False)):
        chosen = {"backbone": str(folders[family]), "prototypes": 8, "d_ff": 8, "llm_layers": 1}
        chosen |= {"prompt_attention": "full", "prompt": {"tokens": 192}}
        settings = Settings(
            pipeline=PipelineSettings(benchmarks=("x",), stages=("base",)), stages={"x": StageOverride(model=chosen)}
        )
        if fails:
            with pytest.raises(SettingsError, match="prompt_attention: full"):
                build(stage, GEOMETRY, settings, "b", 0)
        else:
            build(stage, GEOMETRY, settings, "b", 0)
