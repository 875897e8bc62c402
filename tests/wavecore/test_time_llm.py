"""The reprogrammed model: shapes, frozen weights, masks, caches, every family, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from language import FAMILIES, GEOMETRY, at, batch_of, config_of, made, window_data

from wavecore import parity
from wavecore.config import TrainSettings
from wavecore.errors import StorageError
from wavecore.learn.checkpoint import trainable
from wavecore.learn.curriculum import Loss
from wavecore.learn.finishing import finish, regress
from wavecore.learn.forecast import forecast, predict
from wavecore.learn.least_squares import least_squares
from wavecore.learn.loop import gradients, optimizer_of, train, update
from wavecore.learn.manifest import frozen_hash, tensors_hash
from wavecore.model import backbone as language
from wavecore.model.frozen import Backbone
from wavecore.model.groups import declared, parts
from wavecore.model.layers import Mapping, Reprogramming, patch_count, patches
from wavecore.model.settings import TimeLLMSettings
from wavecore.model.time_llm import TimeLLM
from wavecore.series.splits import Borders

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"


# --- equal to the reference ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert_minilm_2layer", "gpt2_tiny"])
def test_equal_to_the_recorded_reference(name: str) -> None:
    found = parity.differences(PARITY, name)
    recorded = set(np.load(PARITY / f"{name}.recorded.npz").files) - {"input", "prompt_ids"}
    assert set(found) == recorded
    assert all(np.isfinite(value) and value <= 1e-4 for value in found.values()), found


def test_the_stage_reference_reads_padding_as_the_published_model_does(folders: dict[str, Path]) -> None:
    """End token as padding, on the tokenizer's own side, seen and counted as a position."""
    model, batch = made("reference", folders["gpt2"]).eval(), batch_of(3)
    told = model.prompts(batch.x)
    width = max(len(p.ids) for p in told)
    assert len({len(p.ids) for p in told}) > 1
    assert model.reader.padding_side == "right"
    for side in ("right", "left"):
        model.reader.padding_side = side
        fill = [[2] * (width - len(p.ids)) for p in told]
        pairs = zip(fill, told, strict=True)
        padded = [[*f, *p.ids] if side == "left" else [*p.ids, *f] for f, p in pairs]
        with torch.no_grad():
            by_hand = model.trace(batch.x, torch.tensor(padded))
            assert torch.equal(model.trace(batch.x).forecast, by_hand.forecast)


def test_the_stage_reference_says_what_the_published_prompt_says(folders: dict[str, Path]) -> None:
    model, batch = made("reference", folders["bert"]), batch_of(2)
    series, _, _ = model.normalized(batch.x)
    for prompt, window in zip(model.prompts(batch.x), series, strict=True):
        lags = torch.fft.irfft(torch.fft.rfft(window).abs().square(), n=64).topk(5).indices.tolist()
        said = [int(n) for n in prompt.text.split("repeats after ")[1].split(" steps")[0].split()]
        assert said[0] == lags[0] == 0
        assert {min(k, 64 - k) for k in said} == {min(k, 64 - k) for k in lags}
        for word, value in (("minimum", window.min()), ("maximum", window.max()), ("median", window.median())):
            assert f"{word} {value.item()!r}," in prompt.text
        assert f"trend {'upward' if window.diff().sum() > 0 else 'downward'}" in prompt.text
        assert "electricity transformer temperature" in prompt.text


def test_parity_sees_a_changed_weight(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for file in PARITY.glob("gpt2_tiny*"):
        shutil.copy(file, tmp_path)
    path = tmp_path / "gpt2_tiny.weights.safetensors"
    weights = load_file(path)
    weights["mapping_layer.bias"] += 0.01
    save_file(weights, path)
    found = parity.differences(tmp_path, "gpt2_tiny")
    assert found["patch_embedding"] < 1e-4 < found["prototypes"]


def test_parity_prints_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(PARITY), "gpt2_tiny"]) == 0
    assert json.loads(capsys.readouterr().out)["forecast"] <= 1e-4


def test_parity_names_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert parity.main([str(tmp_path), "nothing"]) == 1
    assert "nothing.json" in capsys.readouterr().err
    for file in PARITY.glob("gpt2_tiny*"):
        shutil.copy(file, tmp_path)
    geometry = json.loads((tmp_path / "gpt2_tiny.json").read_text())
    (tmp_path / "gpt2_tiny.json").write_text(json.dumps(geometry | {"prototypes": 17}))
    with pytest.raises(StorageError, match="mapping"):
        parity.differences(tmp_path, "gpt2_tiny")


# --- shapes ----------------------------------------------------------------------------------------------------------


def test_the_worked_example_has_the_shapes_of_r11() -> None:
    """x [4, 512, 7] at GPT-2's width and d_ff 32; its vocabulary on the meta device."""
    x = torch.randn(4, 512, 7, generator=torch.Generator().manual_seed(0))
    settings = TimeLLMSettings(d_ff=32, llm="none", prototype_source="mapping", token_norm=False)
    with torch.device("meta"):
        words = torch.empty(50257, 768)
        model = TimeLLM(512, 96, (16, 8), settings, words, None, None).eval()
    series, _, _ = model.normalized(x)
    cut = patches(series, 16, 8)
    assert cut.shape == (28, 64, 16)
    embedded = model.patch_embedding(cut.to("meta"))
    assert embedded.shape == (28, 64, 32)
    assert model.reprogramming.queries(embedded).shape == (28, 64, 8, 32)
    keys, values = model.reprogramming.keys_values(model.prototypes())
    assert keys.shape == values.shape == (1000, 8, 32)
    assert model.reprogramming.attention(embedded, keys).shape == (28, 8, 64, 1000)
    tokens = model.reprogramming(embedded, keys, values)
    assert model.reprogramming.out.in_features == 256  # [28, 64, 256] before the output projection
    assert tokens.shape == (28, 64, 768)
    assert model.head(tokens).shape == (28, 96)
    counted = [p.trainable for p in parts(model)]
    assert counted == [1_536, 50_258_000, 8_448 + 393_728 + 197_376, 0, 196_704]  # as in docs/model.md


def test_the_table_of_weights_in_the_docs() -> None:
    """`base` on ETTh1 with MiniLM, as docs/model.md shows it (R12)."""
    source = language.find("minilm")
    backbone = Backbone(language.pretrained(source, 6), hooked=True)
    found = parts(TimeLLM(512, 96, (16, 8), TimeLLMSettings(), backbone.words, backbone, None))
    text = (Path(__file__).parents[2] / "docs" / "model.md").read_text()
    for p in found:
        assert f"| {p.name} | {p.trainable:,} | {p.frozen:,} |" in text
    assert f"| **all** | {sum(p.trainable for p in found):,} | {sum(p.frozen for p in found):,} |" in text


@pytest.mark.parametrize(
    ("family", "vocabulary", "width", "mapping"),
    [("gpt2", 50257, 768, 50_257_000), ("qwen2", 151936, 2048, 151_936_000)],
)
def test_geometry_of_real_models(family: str, vocabulary: int, width: int, mapping: int) -> None:
    """GPT-2's and Qwen2.5-3B's embeddings: V and D are read, nothing is set by hand. Shapes on the meta device, which
    has no memory; the frozen layers of that width then run for real over a small vocabulary."""
    from transformers import AutoModel

    with torch.device("meta"):
        backbone = Backbone(AutoModel.from_config(config_of(family, vocabulary, width=width, layers=2)))
        settings = TimeLLMSettings(
            prototype_source="mapping", token_norm=False, computation="plain", dropout_on="weights"
        )
        model = TimeLLM(512, 96, (16, 8), settings, backbone.words, backbone, None).eval()
        embedded = model.patch_embedding(patches(torch.empty(14, 512), 16, 8))
    assert model.words.shape == (vocabulary, width)
    assert model.mapping.weight.numel() == mapping
    assert {p.name: p.trainable for p in parts(model)}["mapping of words to prototypes"] == mapping + 1000
    assert model.prototypes().shape == (1000, width)
    tokens = model.reprogramming(embedded, *model.keys_values())
    assert tokens.shape == (14, 64, width)
    small = Backbone(AutoModel.from_config(config_of(family, 300, width=width, layers=1)))
    real = TimeLLM(64, 24, (16, 8), TimeLLMSettings(prototypes=8, computation="plain"), small.words, small, None).eval()
    with torch.no_grad():
        trace = real.trace(torch.randn(2, 64, 3), torch.zeros(6, 10, dtype=torch.long))
    assert trace.hidden.shape == (6, 10 + 8, width)
    assert trace.forecast.shape == (2, 24, 3)


@pytest.mark.parametrize(
    ("window", "length", "stride"), [(512, 16, 8), (168, 16, 8), (96, 16, 8), (37, 16, 5), (16, 16, 16), (20, 7, 3)]
)
def test_patches_cover_every_step(window: int, length: int, stride: int) -> None:
    x = torch.arange(window, dtype=torch.float32)[None]
    cut = patches(x, length, stride)
    assert cut.shape == (1, patch_count(window, length, stride), length)
    assert set(cut.flatten().tolist()) == set(range(window))
    assert cut[0, 0].tolist() == list(range(length))


def test_mapping_and_attention_equal_plain_sums() -> None:
    torch.manual_seed(0)
    words, mapping = torch.randn(11, 6), Mapping(11, 4)
    prototypes = mapping(words)
    by_hand = torch.stack([(mapping.weight[s][:, None] * words).sum(0) + mapping.bias[s] for s in range(4)])
    torch.testing.assert_close(prototypes, by_hand)
    layer = Reprogramming(5, 3, 2, 6, 0.0).eval()
    embedded = torch.randn(2, 7, 5)
    keys, values = layer.keys_values(prototypes)
    found, query = layer(embedded, keys, values), layer.queries(embedded)
    for m, patch in ((0, 0), (1, 6)):
        heads = []
        for h in range(2):
            scores = torch.stack([query[m, patch, h] @ keys[s, h] for s in range(4)]) / math.sqrt(3)
            heads.append(torch.softmax(scores, 0) @ values[:, h])
        torch.testing.assert_close(found[m, patch], layer.out(torch.cat(heads)))
    torch.testing.assert_close(layer.attention(embedded, keys).sum(-1), torch.ones(2, 2, 7))
    # With nothing dropped, the way of training and the fused one are the same sums.
    plain = torch.einsum("mhls,she->mlhe", layer.attention(embedded, keys), values).flatten(2)
    torch.testing.assert_close(found, layer.out(plain))


# --- frozen weights, batches, caches ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stage", ["reference", "base", "base.skip", "best", "prompt"])
def test_one_step_of_every_family(family: str, stage: str, folders: dict[str, Path]) -> None:
    """A step moves every trainable weight but those without a gradient, and not one frozen bit."""
    model = made(stage, folders[family])
    before, frozen = {k: p.detach().clone() for k, p in trainable(model).items()}, frozen_hash(model)
    settings = TrainSettings(steps=1, learning_rate=1e-3, threads=1)
    optimizer = optimizer_of(declared(model), settings)
    loss = gradients(model.train(), batch_of(2), Accelerator(cpu=True), Loss(settings, 12), 0)["loss"]
    update(optimizer, Accelerator(cpu=True), settings, 1e-3)
    assert math.isfinite(loss)
    moved = {k for k, p in trainable(model).items() if not torch.equal(p, before[k])}
    # A key's bias shifts all scores of a patch alike, so that softmax takes it out: its gradient is rounding.
    assert moved | {"reprogramming.key.bias"} == set(before)
    assert frozen_hash(model) == frozen
    assert not any(p.grad is not None for p in model.parameters() if not p.requires_grad)


def test_training_leaves_the_frozen_weights(folders: dict[str, Path]) -> None:
    data, model = window_data(), made("base", folders["bert"], prototypes=8)
    before = frozen_hash(model)
    borders = Borders(train=(0, 250), select=(250, 320), decide=(320, 350), test=(350, 400))
    settings = TrainSettings(steps=4, batch_windows=2, eval_every=2, eval_windows=2, threads=1)
    done = train(model, data, borders, settings, seed=0)
    assert done.steps == 4
    assert frozen_hash(model) == before is not None


@pytest.mark.parametrize("stage", ["base", "prompt", "prompt.replace", "no_llm", "random_llm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_forecast_does_not_depend_on_its_batch(stage: str, family: str, folders: dict[str, Path]) -> None:
    model, batch = made(stage, folders[family]), batch_of(6)
    if model.prompter is not None:
        lengths = {len(p.ids) for p in model.prompts(batch.x)}
        assert len(lengths) > 1, "prompts of one length would prove nothing"
    whole = predict(model, batch)
    for i in range(6):
        alone = predict(model, at(batch, i))
        np.testing.assert_allclose(alone[0], whole[i], atol=2e-6)
    turned = predict(model, at(batch, *reversed(range(len(batch.x)))))
    np.testing.assert_allclose(turned[::-1], whole, atol=2e-6)


def test_the_reference_does_depend_on_its_batch(folders: dict[str, Path]) -> None:
    """Its padding is attended to: the reason for the correction, kept as the reference has it."""
    model, batch = made("base.unmasked", folders["bert"]), batch_of(6)
    whole = predict(model, batch)
    alone = np.concatenate([predict(model, at(batch, i)) for i in range(6)])
    assert np.abs(whole - alone).max() > 1e-4


def test_attention_outputs_change_no_forecast(folders: dict[str, Path]) -> None:
    for family in ("bert", "gpt2", "llama"):
        plain, asked = made("base", folders[family]), made("base.attention_outputs", folders[family])
        np.testing.assert_allclose(predict(plain, batch_of(3)), predict(asked, batch_of(3)), atol=2e-6)


def test_frozen_mode(folders: dict[str, Path]) -> None:
    held, follows = made("base", folders["bert"]), made("base.frozen_dropout", folders["bert"])
    for model in (held, follows):
        model.train()
    assert not any(m.training for m in held.backbone.modules())  # type: ignore[union-attr]
    assert held.patch_embedding.training
    assert all(m.training for m in follows.backbone.transformer.modules())  # type: ignore[union-attr]


def test_arms_start_from_the_same_trainable_weights(folders: dict[str, Path]) -> None:
    models = {s: made(s, folders["bert"]) for s in ("base", "no_llm", "random_llm", "prompt")} | {
        "other": made("base", folders["bert"], seed=1)
    }
    hashes = {s: tensors_hash(trainable(m)) for s, m in models.items()}
    assert len({hashes[s] for s in ("base", "no_llm", "prompt")}) == 1
    # Prototypes begin as the language model's words, which are random in `random_llm`; nothing else differs.
    weights = [trainable(models[s]) for s in ("base", "random_llm")]
    assert {k for k in weights[0] if not torch.equal(weights[0][k], weights[1][k])} == {
        "mapping.weight",
        "reprogramming.norm.weight",  # begins at the size of the words
    }
    assert hashes["other"] != hashes["base"]
    assert frozen_hash(models["base"]) == frozen_hash(models["other"])
    assert frozen_hash(models["random_llm"]) != frozen_hash(models["base"])
    again = made("random_llm", folders["bert"])
    assert frozen_hash(again) == frozen_hash(models["random_llm"])
    assert frozen_hash(made("random_llm", folders["bert"], seed=1)) != frozen_hash(again)
    torch.testing.assert_close(models["no_llm"].words, models["base"].words, rtol=0, atol=0)


def test_a_linear_skip_begins_at_nothing_and_is_a_linear_map(folders: dict[str, Path]) -> None:
    base, skip = (made(stage, folders["bert"]).eval() for stage in ("base", "base.skip"))
    batch = batch_of(3)
    before = predict(base, batch)
    np.testing.assert_array_equal(predict(skip, batch), before)
    assert set(trainable(skip)) - set(trainable(base)) == {"skip.weight"}
    assert skip.skip is not None
    # On the normalized window: it repeats the last value, in the window's own units.
    with torch.no_grad():
        skip.skip.weight[:, -1] = 1.0
    series, _, std = skip.normalized(batch.x)
    last = (series[:, -1].view(3, 1, -1) * std.view(3, 1, -1)).numpy()
    np.testing.assert_allclose(predict(skip, batch) - before, np.broadcast_to(last, before.shape), rtol=1e-4, atol=1e-4)


def test_averaged_with_a_regression_once_it_is_known(folders: dict[str, Path]) -> None:
    """Trained as without it, step by step; then the forecast is the mean of both."""
    data, borders = window_data(), Borders(train=(0, 250), select=(250, 320), decide=(320, 350), test=(350, 400))
    settings = TrainSettings(steps=2, batch_windows=2, eval_every=1, eval_windows=2, threads=1)
    base, both = (made(stage, folders["bert"]) for stage in ("base", "base.averaged"))
    curves = [train(model, data, borders, settings, seed=0).curve for model in (base, both)]
    assert curves[0] == curves[1]
    batch = data.batch(np.arange(352, 358))
    own = predict(base, batch)
    np.testing.assert_array_equal(predict(both, batch), own)
    rows = finish(both, data, borders, settings, regress(both, data, borders, "cpu", 1))
    assert [row["chosen"] for row in rows].count(True) == 1
    affine, again = least_squares(data, borders, 1)
    assert rows == again
    linear = (batch.x.transpose(1, 2).double() @ affine.weight.T + affine.bias).transpose(1, 2).numpy()
    np.testing.assert_allclose(predict(both, batch), (own + linear) / 2, atol=1e-5)
    assert {p.name: p.trainable for p in parts(both)}["linear regression"] == 12 * 65
    assert regress(base, data, borders, "cpu", 1) is None
    assert finish(base, data, borders, settings, None) == []


def test_keys_and_values_are_constants_of_the_weights(folders: dict[str, Path]) -> None:
    """Bit-identical for another dataset and window at equal weights, while queries differ (R5, R11)."""
    model = made("base", folders["bert"]).eval()
    other = made(
        "base", folders["bert"], dataclasses.replace(GEOMETRY, window=96, description="Something else.")
    ).eval()
    with torch.no_grad():
        mine, theirs = model.keys_values(), other.keys_values()
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        queries = [
            m.reprogramming.queries(m.patch_embedding(patches(m.normalized(batch_of(2, g).x)[0], 16, 8)))
            for m, g in ((model, GEOMETRY), (other, dataclasses.replace(GEOMETRY, window=96)))
        ]
    assert not torch.equal(queries[0], queries[1][:, : queries[0].shape[1]])


# Prototypes that are weights of their own (`base`) have no bias.
MAPPED = ("mapping.weight", "mapping.bias")
PROJECTED = tuple(f"reprogramming.{part}.{kind}" for part in ("key", "value") for kind in ("weight", "bias"))


@pytest.mark.parametrize(
    ("stage", "weight"),
    [("base", w) for w in ("mapping.weight", *PROJECTED)] + [("base.mapping", w) for w in (*MAPPED, *PROJECTED)],
)
def test_the_cache_is_dropped_when_a_weight_changes(stage: str, weight: str, folders: dict[str, Path]) -> None:
    model, batch = made(stage, folders["bert"]).eval(), batch_of(2)
    first = predict(model, batch)
    with torch.no_grad():
        kept = model.keys_values()
        assert model.keys_values() is kept
        parameter = dict(model.named_parameters())[weight]
        parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        changed = model.keys_values()
        fresh = model.reprogramming.keys_values(model.prototypes())
    assert changed is not kept
    assert all(torch.equal(a, b) for a, b in zip(changed, fresh, strict=True))
    if weight != "reprogramming.key.bias":  # softmax takes it out
        assert not np.array_equal(first, predict(model, batch))


def test_a_pass_of_forecasts_maps_the_words_once(folders: dict[str, Path]) -> None:
    model, data = made("no_llm", folders["bert"]), window_data()
    origins, calls = np.arange(64, 124, 6), []
    model.mapping.register_forward_hook(lambda *_: calls.append(1))

    def forecasts() -> np.ndarray:
        return np.concatenate([ahead for _, ahead in forecast(model, data, origins, 3)])

    first = forecasts()
    assert len(calls) == 1
    # Not even a write that torch does not count outlasts a pass.
    model.mapping.weight.data.add_(torch.randn(model.mapping.weight.shape, generator=torch.Generator().manual_seed(0)))
    assert not np.array_equal(forecasts(), first)
    assert len(calls) == 2
    assert model.training


def test_the_cache_is_dropped_by_training_loading_and_casting(folders: dict[str, Path]) -> None:
    model = made("no_llm", folders["bert"]).eval()
    state = {k: v + 1 if k == "mapping.weight" else v for k, v in model.state_dict().items()}
    with torch.no_grad():
        kept = model.keys_values()
        model.load_state_dict(state)
        assert not torch.equal(model.keys_values()[0], kept[0])
        kept = model.keys_values()
        model.train().eval()
        assert model.keys_values() is not kept
        model.double()
        assert model.keys_values()[0].dtype == torch.float64
        model.mapping.weight = torch.nn.Parameter(torch.zeros_like(model.mapping.weight))
        fresh = model.reprogramming.keys_values(model.prototypes())
        assert all(torch.equal(a, b) for a, b in zip(model.keys_values(), fresh, strict=True))


def test_a_gradient_in_eval_mode_flows_through_the_prototypes(folders: dict[str, Path]) -> None:
    model = made("no_llm", folders["bert"]).eval()
    predict(model, batch_of(2))
    model(batch_of(2)).sum().backward()
    assert model.mapping.weight.grad is not None
