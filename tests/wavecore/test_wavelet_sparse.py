"""Fewer tokens by their wavelet energy (W5): which stay, and where the others go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given
from hypothesis import strategies as st
from language import batch_of, made
from torch import Tensor
from wavelet_parts import SCALES, of_stage, series_of, sparse_of, tokens_of

from wavecore.errors import SettingsError
from wavecore.learn.forecast import predict
from wavecore.model.layers import patches
from wavecore.model.sparse import Sparse, dominant
from wavecore.model.wavelet_settings import SparseSettings

# Energy so small that a share of it is no number any more is none.
energies = st.floats(0, 10, allow_subnormal=False)


@given(st.lists(energies, min_size=2, max_size=6), st.floats(0.05, 1.0))
def test_dominant_scales_are_the_fewest(energy: list[float], share: float) -> None:
    chosen = dominant(torch.tensor([energy], dtype=torch.float64), share)[0].numpy()
    values, total = np.array(energy), sum(energy)
    if total == 0:
        assert not chosen.any()
        return
    held = values[chosen].sum()
    assert held >= share * total * (1 - 1e-12)
    least = values[chosen].min()
    assert held - least < share * total * (1 + 1e-12)
    assert (values[~chosen] <= least).all()


def test_energetic_stretches_of_dominant_scales_come_first() -> None:
    t = np.arange(256)
    x = 0.2 * np.sin(2 * np.pi * t / 24)
    x[100:140] += 3 * np.sin(2 * np.pi * t[100:140] / 12)
    # A little fast noise elsewhere holds next to no energy: its scale is not dominant.
    x[200:210] += 0.3 * (-1.0) ** np.arange(10)
    groups = sparse_of(keep="count", count=8).groups(torch.tensor(x - x.mean())[None].float(), 8)
    kept = groups.kept[0].tolist()
    assert kept[-1] == 31, "the last patch"
    assert all(88 <= 8 * place + 8 <= 152 for place in kept[:-1])
    # Of the patches that lie in the burst none is missing.
    assert {12, 13, 14, 15, 16} <= set(kept)


def spike() -> Tensor:
    """A slow wave throughout with a short fast one on it, which has by far the most energy per step, but a tenth of the
    window's: [1, 256]."""
    t = np.arange(256)
    x = 2 * np.sin(2 * np.pi * t / 64)
    x[96:104] += 3 * (-1.0) ** np.arange(8)
    return torch.from_numpy(x - x.mean())[None].float()


def test_what_is_short_and_in_no_dominant_scale_comes_not_first() -> None:
    """However much energy its stretch has."""
    inside = {11, 12}  # patches that hold all of it: rows 88 to 103 and 96 to 111
    first = {}
    for share in (0.6, 1.0):
        score = sparse_of(dominant=share).scores(spike())[0]
        first[share] = set(score.topk(2).indices.tolist())
    assert first[1.0] == inside
    assert not first[0.6] & inside


def test_wavelet_tokens_of_no_dominant_scale_score_zero() -> None:
    wavelets, x = tokens_of(), spike()
    energy = wavelets.energy(x)
    ranked = energy[0].sort(descending=True)
    count = int((ranked.values.cumsum(0) < 0.6 * ranked.values.sum()).sum()) + 1
    # Which of the kept scales are among the fewest that hold 60%.
    among = {int(band) for band in ranked.indices[:count]}
    chosen = torch.tensor([int(band) in among for band in torch.arange(energy.shape[1])[wavelets.chosen]])
    scores = {share: sparse_of(wavelets, dominant=share)._of_wavelets(x, wavelets)[0] for share in (0.6, 1.0)}
    belongs = chosen[wavelets.scale]
    assert belongs.any()
    assert not belongs.all()
    torch.testing.assert_close(scores[0.6], torch.where(belongs, scores[1.0], 0.0), rtol=0, atol=0)
    assert (scores[1.0] > 0).all()


@pytest.mark.parametrize("by", ["energy", "entropy", "variance"])
def test_a_constant_window_keeps_the_latest(by: str) -> None:
    x = torch.zeros(1, 256)
    # Beside patches, of every scale of wavelet tokens its latest.
    for wavelets, kept in ((None, [*range(24, 32)]), (tokens_of(), [0, 1, 3, 7, 36, 37, 38, 39])):
        sparse = sparse_of(wavelets, by=by, keep="count", count=8)
        assert not sparse.scores(x).any()
        assert sparse.groups(x, 8).kept[0].tolist() == kept
        assert sparse.needed(x).tolist() == [8]


def test_variance_and_entropy_by_hand() -> None:
    x = series_of()
    cut = patches(x, 16, 8).numpy()
    variance = cut.var(axis=-1)
    expected = variance / variance.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(sparse_of(by="variance").scores(x).numpy(), expected, rtol=1e-4)
    # One scale at work, then all of them.
    t = torch.arange(256.0)
    half = torch.where(t < 128, torch.sin(2 * torch.pi * t / 3), x[0])[None]
    found = sparse_of(by="entropy").scores(half)[0]
    assert float(found[2:14].mean()) < float(found[18:30].mean())


@pytest.mark.parametrize("at", [30, 100, 200, 236, 250])
@pytest.mark.parametrize("width", [3, 10, 20])
def test_a_score_lies_where_the_event_is(at: int, width: int) -> None:
    t = torch.arange(256.0)
    bump = torch.exp(-0.5 * ((t - at) / width) ** 2)[None]
    score = sparse_of().scores(bump - bump.mean())[0]
    assert abs(8 * int(score.argmax()) + 8 - at) <= 8 + width / 2


def test_scores_are_energy_per_step_in_means_of_their_kind() -> None:
    sparse = Sparse(SparseSettings(enabled=True, dominant=1.0), SCALES, 256, (16, 16), 17, None)
    x = series_of()
    parts = pywt.wavedec(x.double().numpy(), "db4", mode="symmetric", level=4, axis=-1)
    local = np.zeros((3, 17))
    for band in range(5):
        alone = [p if i == band else np.zeros_like(p) for i, p in enumerate(parts)]
        power = np.square(pywt.waverec(alone, "db4", mode="symmetric", axis=-1)[:, :256])
        local += np.concatenate([power, np.repeat(power[:, -1:], 16, axis=1)], axis=1).reshape(3, 17, 16).mean(axis=-1)
    np.testing.assert_allclose(sparse.scores(x).numpy(), local / local.mean(axis=1, keepdims=True), rtol=1e-4)
    both = sparse_of(tokens_of()).scores(x)
    torch.testing.assert_close(both[:, :8].mean(dim=1), torch.ones(3))
    torch.testing.assert_close(both[:, 8:].mean(dim=1), torch.ones(3))


def test_the_rest_goes_to_the_nearest_of_its_own_scale() -> None:
    wavelets = tokens_of()
    sparse, x = sparse_of(wavelets, keep="count", count=12), series_of()
    groups = sparse.groups(x, 12)
    for m in range(3):
        kept = groups.kept[m].tolist()
        for i, owner in enumerate(groups.owner[m].tolist()):
            same = [k for k in kept if sparse.scale[k] == sparse.scale[i]]
            nearest = min(abs(float(sparse.centre[k] - sparse.centre[i])) for k in same)
            assert kept[owner] in same
            assert abs(float(sparse.centre[kept[owner]] - sparse.centre[i])) == nearest
    assert groups.members.sum(dim=1).tolist() == [40, 40, 40]


def test_a_threshold_keeps_what_is_above_it_and_little_more() -> None:
    sparse, x = sparse_of(keep="threshold", threshold=1.0), series_of()
    score = sparse.scores(x)
    score[:, -1] = torch.inf  # the last patch stays
    above = (score >= 1).sum(dim=1)
    needed = sparse.needed(x)
    assert bool(((needed >= above) & (needed < above + 4) & (needed % 4 == 0)).all())


@pytest.mark.parametrize("rest", ["pool", "drop"])
def test_fewer_tokens_reach_reprogramming_and_positions_travel(rest: str, folders: dict[str, Path]) -> None:
    stage = "only_sparse" if rest == "pool" else "only_sparse.drop"
    model, batch = of_stage(stage, folders["gpt2"]).eval(), batch_of(2)
    seen: list[Tensor] = []
    assert model.backbone is not None
    read = model.backbone.read

    def spied(tokens: Tensor, positions: Tensor, reading: Any) -> Tensor:
        if positions.shape[0] == 6 and reading.kept is None:
            seen.append(positions)
        return read(tokens, positions, reading)

    model.backbone.read = spied  # type: ignore[method-assign]
    with torch.no_grad():
        trace = model.trace(batch.x)
    assert trace.reprogrammed.shape[1] == 4, "half of 8 patches"
    assert trace.groups is not None
    told = torch.tensor([len(p.ids) for p in model.prompts(batch.x)])
    assert torch.equal(seen[-1], told[:, None] + trace.groups.kept)


def test_with_all_tokens_kept_the_forecast_is_that_of_base(folders: dict[str, Path]) -> None:
    base = made("base", folders["bert"]).eval()
    whole = of_stage("only_sparse", folders["bert"], model={"sparse": {"share": 1.0}}).eval()
    torch.testing.assert_close(predict(whole, batch_of(2)), predict(base, batch_of(2)))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"keep": "count", "count": 33}, "33 tokens, but a window has 32"),
        ({"share": 0.01}, "0 of 32 tokens, but 1 always"),
    ],
)
def test_a_number_of_tokens_that_is_not_there_is_an_error(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        sparse_of(**settings)


def test_every_scale_of_wavelet_tokens_stays() -> None:
    """Also where one holds next to nothing: what it says is averaged into a token of its own scale, never another's."""
    wavelets = tokens_of()
    sparse, x = sparse_of(wavelets, keep="count", count=5), series_of()
    for m, kept in enumerate(sparse.groups(x, 5).kept.tolist()):
        assert {int(sparse.scale[k]) for k in kept} == {-1, 0, 1, 2, 3}
        assert kept[-1] == 39, m
    with pytest.raises(SettingsError, match="5 always stay"):
        sparse_of(wavelets, keep="count", count=4)
