"""The token budget: what is kept, why, and that nothing else changes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from language import FAMILIES, at, batch_of, budgeted, made

from wavecore.errors import SettingsError
from wavecore.learn.forecast import predict
from wavecore.model.budget import TokenBudget, falling, group, schedules, sizes
from wavecore.model.layers import patches
from wavecore.model.looking import evidence as evidence_of
from wavecore.model.looking import influence as influence_of
from wavecore.model.settings import BudgetSettings
from wavecore.model.spectrum import changing, contribution, spectra
from wavecore.model.time_llm import Use

# --- which tokens stay ------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.data())
def test_groups_equal_a_plain_search(seed: int, total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, total))
    # Whole numbers, so that there are equal distances too.
    features = torch.tensor(np.random.default_rng(seed).integers(0, 3, size=(2, total, 3)), dtype=torch.float32)
    found = group(features, count)
    for m in range(2):
        points = features[m].double().numpy()
        kept, evidence = [total - 1], [np.inf]
        while len(kept) < count:
            best, most = -1, -1.0
            for i in range(total - 1, -1, -1):
                nearest = min(np.linalg.norm(points[i] - points[k]) for k in kept)
                if i not in kept and nearest > most + 1e-9:
                    best, most = i, nearest
            kept.append(best)
            evidence.append(most)
        assert found.kept[m].tolist() == sorted(kept)
        np.testing.assert_allclose(found.evidence[m].numpy()[found.order[m].argsort()], evidence, rtol=1e-6)
        for i in range(total):
            distances = [np.linalg.norm(points[i] - points[k]) for k in sorted(kept)]
            mine = int(found.owner[m, i])
            np.testing.assert_allclose(distances[mine], min(distances), atol=1e-6)
            np.testing.assert_allclose(found.away[m, i], distances[mine], atol=1e-6)
            if i in kept:
                assert sorted(kept)[mine] == i


def test_evidence_falls_from_token_to_token() -> None:
    features = torch.randn((3, 20, 4), generator=torch.Generator().manual_seed(0))
    found = group(features, 12)
    turn = found.in_turn()
    assert bool((turn[:, 1:] <= turn[:, :-1]).all())


def test_repeated_patterns_are_merged_and_an_event_is_kept() -> None:
    """A daily cycle repeats itself every three patches of stride 8; one burst does not."""
    t = torch.arange(512, dtype=torch.float32)
    x = torch.sin(2 * torch.pi * t / 24)[None]
    x[0, 200:204] += torch.tensor([3.0, -3.0, 3.0, -3.0])
    cut = patches(x, 16, 8)
    for kind in ("fourier", "wavelet", "auto"):
        found = group(spectra(cut, BudgetSettings(spectrum=kind)), 6)
        assert {24, 25} & set(found.kept[0].tolist()), "a patch with the burst"
        usual = found.owner[0, [1, 4, 7, 10, 40, 43]]
        assert len(set(usual.tolist())) == 1, "the same hour of other days"
    share = contribution(cut, BudgetSettings())[0]
    assert float(share.sum()) == pytest.approx(1.0, abs=1e-5)
    assert int(share.argmax()) in (24, 25)


def test_a_window_whose_spectrum_changes_is_seen_locally() -> None:
    t = torch.arange(256, dtype=torch.float32)
    steady = torch.sin(2 * torch.pi * t / 8)
    turned = torch.where(t < 128, steady, torch.sin(2 * torch.pi * t / 3))
    cut = patches(torch.stack([steady, turned]), 16, 8)
    change = changing(cut)
    assert float(change[0]) < 0.1 < 0.5 < float(change[1])
    auto = spectra(cut, BudgetSettings(spectrum="auto"))
    fourier, wavelet = (spectra(cut, BudgetSettings(spectrum=kind)) for kind in ("fourier", "wavelet"))
    torch.testing.assert_close(auto[0, :, : fourier.shape[-1]], fourier[0])
    torch.testing.assert_close(auto[1, :, : wavelet.shape[-1]], wavelet[1])


@pytest.mark.parametrize("length", [16, 7, 3])
def test_a_constant_window_is_defined(length: int) -> None:
    cut = torch.randn((2, 9, length), generator=torch.Generator().manual_seed(0))
    cut[1] = 0.0
    for kind in ("fourier", "wavelet"):
        found = spectra(cut, BudgetSettings(spectrum=kind))
        assert found.isfinite().all()
        assert float(found[1].abs().max()) == 0.0
    assert contribution(cut, BudgetSettings())[1].tolist() == pytest.approx([1 / 9] * 9)
    assert group(spectra(cut, BudgetSettings()), 3).kept[1].tolist() == [6, 7, 8]


def test_whitening_counts_rare_frequencies_more() -> None:
    """Of two patches that stand out by the same energy, the one at a frequency that no other patch has counts more."""
    t = torch.arange(512, dtype=torch.float32)
    x = torch.sin(2 * torch.pi * t / 16)[None]
    cut = x.unfold(-1, 16, 16).clone()
    more = torch.sin(2 * torch.pi * torch.arange(16) / 16)
    rare = torch.sin(2 * torch.pi * torch.arange(16) * 5 / 16)
    cut[0, 5] += more * 0.5
    cut[0, 20] += rare * (((1.5**2 - 1) * more.square().sum()) / rare.square().sum()).sqrt()
    raw = cut.square().sum(-1)[0]
    assert float(raw[5]) == pytest.approx(float(raw[20]), rel=1e-4)
    for kind in ("fourier", "wavelet"):
        share = contribution(cut, BudgetSettings(spectrum=kind))[0]
        assert float(share[20]) > 1.2 * float(share[5]), kind


# --- the model with a budget ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_with_everything_read_it_is_base(family: str, folders: dict[str, Path]) -> None:
    base, model, batch = made("base", folders[family]), budgeted(folders[family]), batch_of(3)
    np.testing.assert_array_equal(predict(model, batch), predict(base, batch))


@pytest.mark.parametrize("stage", ["budget", "budget.drop", "budget.no_return"])
def test_kept_tokens_stand_at_their_own_places(stage: str, folders: dict[str, Path]) -> None:
    model, batch = budgeted(folders["llama"], stage).eval(), batch_of(2)
    with torch.no_grad():
        trace = model.trace(batch.x, use=Use(4))
        assert trace.groups is not None
        assert trace.reprogrammed.shape[1] == trace.hidden.shape[1] == 4
        series, _, _ = model.normalized(batch.x)
        embedded = model.patch_embedding(patches(series, *model.patch))
        reduced = model.budget.reduce(patches(series, *model.patch), embedded, 4)  # type: ignore[union-attr]
        for m in range(len(series)):
            for k in range(4):
                members = (trace.groups.owner[m] == k).nonzero()[:, 0]
                mean = embedded[m, members].mean(0)
                alone = embedded[m, trace.groups.kept[m, k]]
                wanted = alone if stage == "budget.drop" else mean
                torch.testing.assert_close(reduced.embedded[m, k], wanted)
        restored = model.budget.restore(trace.hidden[..., :8], reduced)  # type: ignore[union-attr]
    # The way back begins as nothing, so a patch's features are those of its group.
    torch.testing.assert_close(
        restored, trace.hidden[..., :8].gather(1, trace.groups.owner[..., None].expand(-1, -1, restored.shape[-1]))
    )


@pytest.mark.parametrize("stage", ["budget", "budget.per_window"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_forecast_does_not_depend_on_its_batch(stage: str, family: str, folders: dict[str, Path]) -> None:
    model, batch = budgeted(folders[family], stage), batch_of(6)
    budget = model.budget
    assert budget is not None
    budget.tokens.fill_(4)
    budget.told[1:, 20:] = False
    if stage == "budget.per_window":
        evidence = evidence_of(model, batch.x, 4)
        budget.threshold.fill_(float(evidence[:, 2].median()))
        assert len(model.needed(batch.x).unique()) > 1, "windows of one need would prove nothing"
    whole = predict(model, batch)
    for i in range(6):
        alone = predict(model, at(batch, i))
        np.testing.assert_allclose(alone[0], whole[i], atol=3e-6)


def _masked(
    module: Any, query: Any, key: Any, value: Any, _: Any, scaling: float = 1.0, added: Any = None, **__: Any
) -> Any:
    """Attention written out over the whole sequence, with scores of its own added in each layer."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scores = query @ key.transpose(-1, -2) * scaling + added[module.layer_idx]
    return (scores.softmax(-1) @ value).transpose(1, 2), None


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("counted", [True, False])
def test_a_budget_equals_one_pass_with_a_mask_per_layer(family: str, counted: bool, folders: dict[str, Path]) -> None:
    """Four patches at their places behind a prompt that the second layer sees in part: the same hidden states as prompt
    and patches in one sequence, where masks say who sees whom. A patch that counts as n stands there n times."""
    from transformers import AttentionInterface

    from wavecore.model import backbone as language
    from wavecore.model.backbone import first_position

    stage = "budget" if counted else "budget.uncounted"
    model, batch = budgeted(folders[family], stage).eval(), batch_of(3)
    fixed = len(model.prompter.fixed_ids)  # type: ignore[union-attr]
    told = torch.ones_like(model.budget.told)  # type: ignore[union-attr]
    told[1] = False
    told[1, [0, 2, fixed + 1]] = True
    AttentionInterface.register("masked_for_a_test", _masked)
    plain = language.pretrained(language.find(str(folders[family])), 2).eval()
    plain.set_attn_implementation("masked_for_a_test")
    with torch.no_grad():
        trace = model.trace(batch.x, use=Use(4, told))
        rows = [p.ids for p in model.prompts(batch.x)]
        for m, ids in enumerate(rows):
            width = len(ids)
            words = plain.get_input_embeddings()(torch.tensor([ids]))
            assert trace.groups is not None
            times = trace.groups.members[m].long() if counted else torch.ones(4, dtype=torch.int64)
            copies = torch.arange(4).repeat_interleave(times)
            whole = torch.cat([words, trace.reprogrammed[m : m + 1, copies]], dim=1)
            at = torch.cat([torch.arange(width), width + trace.groups.kept[m, copies]])
            block = torch.tensor([0] * fixed + [1] * (width - fixed) + [2] * len(copies))
            order = torch.cat([torch.arange(width), width + copies])
            seen = order[:, None] >= order[None] if model.backbone.causal else block[:, None] >= block[None]  # type: ignore[union-attr]
            scores = []
            for layer in range(2):
                own = seen.clone()
                own[width:, :width] &= told[layer, :width]
                added = torch.zeros(own.shape).masked_fill(~own, -1e30)
                scores.append(added)
            extra = {"use_cache": False} if model.backbone.causal else {}  # type: ignore[union-attr]
            hidden = plain(
                inputs_embeds=whole, position_ids=at[None] + first_position(plain.config), added=scores, **extra
            ).last_hidden_state
            torch.testing.assert_close(trace.hidden[m, copies], hidden[0, width:], atol=1e-5, rtol=1e-4)
            assert not counted or len(copies) == model.patches


def test_both_descriptions_have_the_same_scale() -> None:
    """One threshold of evidence serves windows of either kind."""
    cut = torch.randn((64, 32, 16), generator=torch.Generator().manual_seed(0))
    found = {}
    for kind in ("fourier", "wavelet"):
        features = spectra(cut, BudgetSettings(spectrum=kind))
        torch.testing.assert_close(features.square().sum(-1).mean(-1), torch.ones(64))
        groups = group(features, 9)
        found[kind] = float(groups.in_turn()[:, 8].mean())
    assert found["fourier"] == pytest.approx(found["wavelet"], rel=0.15)


def test_training_steps_draw_sizes_from_their_seed(folders: dict[str, Path]) -> None:
    model = budgeted(folders["bert"]).train()
    budget = model.budget
    assert budget is not None
    torch.manual_seed(0)
    drawn = [budget.drawn() for _ in range(300)]
    torch.manual_seed(0)
    assert [budget.drawn() for _ in range(300)] == drawn
    assert {size.tokens for size in drawn} == set(budget.sizes)
    whole = sum(size.tokens == model.patches for size in drawn) / 300
    assert 0.1 < whole < 0.3
    assert {size[1:] for size in drawn} == {(1, 1), (1, 2), (2, 2)} == set(schedules(2))
    torch.manual_seed(0)
    told, known = model.falling(1, 1), model.falling(1, 2)
    assert told is not None
    assert known is not None
    fixed = len(model.prompter.fixed_ids)  # type: ignore[union-attr]
    assert bool(told[0].all())
    assert int(told[1].sum()) == int(told[1, :fixed].sum()) == fixed // 4, "as deeper layers see it when forecasting"
    assert bool(known[1, :fixed].all())
    assert not bool(known[1, fixed:].any())
    assert model.falling(2, 2) is None
    assert all(size[1:] == (2, 2) for size in drawn if size.tokens == model.patches)
    alone = budgeted(folders["bert"], "budget.series_only").train().budget
    assert {alone.drawn()[1:] for _ in range(50)} == {(2, 2)}  # type: ignore[union-attr]


def test_fewer_tokens_keep_fewer_bytes_for_the_backward_pass(folders: dict[str, Path]) -> None:
    model, batch = budgeted(folders["bert"], dropout=0.0), batch_of(4)
    kept: list[int] = []
    for tokens in (6, 4, 2):
        seen: dict[int, int] = {}
        alive = []

        def note(t: torch.Tensor, seen: dict[int, int] = seen, alive: list[Any] = alive) -> torch.Tensor:
            alive.append(t)
            seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            model.train().trace(batch.x, use=Use(tokens))
        own = {p.untyped_storage().data_ptr() for p in model.parameters()}
        kept.append(sum(size for at, size in seen.items() if at not in own))
    # Beside what does not depend on them, bytes go with the number of tokens.
    assert kept[0] - kept[1] == pytest.approx(kept[1] - kept[2], rel=0.2)
    assert kept[1] > kept[2]


# --- the prompt -------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 7), st.integers(1, 40), st.data())
def test_prompt_tokens_never_come_back(seed: int, layers: int, total: int, data: st.DataObject) -> None:
    facts = data.draw(st.integers(1, layers))
    depth = data.draw(st.integers(facts, layers))
    influence = torch.tensor(np.random.default_rng(seed).random((layers, total)))
    fixed = data.draw(st.integers(0, total))
    seen = falling(influence, fixed, facts, depth)
    assert bool(seen[:facts].all())
    assert bool(seen[:depth, :fixed].all())
    assert not bool(seen[facts:, fixed:].any())
    for layer in range(1, layers):
        assert not bool((seen[layer] & ~seen[layer - 1]).any())
    for layer in range(depth, layers):
        assert int(seen[layer].sum()) == fixed // 4 ** (layer - depth + 1)
        left, gone = influence[layer][seen[layer]], influence[layer][(seen[layer - 1] & ~seen[layer])[:fixed].nonzero()]
        assert not len(left) or not len(gone) or float(left.min()) >= float(gone.max())


@pytest.mark.parametrize("family", FAMILIES)
def test_influence_is_the_attention_that_a_prompt_gets(family: str, folders: dict[str, Path]) -> None:
    model, batch = budgeted(folders[family]).eval(), batch_of(3)
    with torch.no_grad():
        found = influence_of(model, batch.x)
    longest = max(len(p.ids) for p in model.prompts(batch.x))
    assert found.shape == (2, longest)
    assert bool((found >= 0).all())
    assert bool((found.sum(dim=1) < 1).all())
    assert bool((found.sum(dim=1) > 0).all())


def test_a_prompt_that_no_layer_sees_is_refused() -> None:
    for facts, depth in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match="1 ≤ facts ≤ depth"):
            falling(torch.ones(3, 4), 2, facts, depth)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"tolerance": 0.0}, "tolerance: must be above 0"),
        ({"tolerance": 1.0}, "tolerance: must be above 0 and below 1"),
        ({"shares": ()}, "shares: each must be above 0"),
        ({"shares": (0.0, 0.5)}, "shares: each must be above 0"),
        ({"shares": (0.5, 0.25)}, "shares: must rise"),
        ({"change": 2.0}, "change"),
        ({"full": 0.0}, "full: must be above 0"),
        ({"shared": True, "per_window": True}, "shared: not together with per_window"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        BudgetSettings(**wrong)


def test_a_budget_below_one_token(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match=r"0\.1 of 8 patches is less than one token"):
        budgeted(folders["bert"], budget={"shares": [0.1, 0.5]})
    assert sizes(BudgetSettings(shares=(0.125, 0.2, 0.5)), 8) == (1, 4, 8)


def test_a_budget_needs_a_language_model_that_is_read_apart(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match="budget"):
        made("no_llm", folders["bert"], own={"budget": {"enabled": True}})
    assert isinstance(budgeted(folders["bert"]).budget, TokenBudget)
    assert made("base", folders["bert"]).budget is None
