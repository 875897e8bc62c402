"""The wavelet innovations in the model: tokens (W2), streams (W3), sparse (W5), alone and stacked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from language import FAMILIES, GEOMETRY, at, batch_of, made
from torch import Tensor

from wavecore import stages
from wavecore.config import FeatureSettings, TrainSettings, build, settings_from
from wavecore.errors import SettingsError
from wavecore.learn.checkpoint import trainable
from wavecore.learn.curriculum import Loss
from wavecore.learn.forecast import predict
from wavecore.learn.loop import gradients, optimizer_of, update
from wavecore.learn.manifest import frozen_hash
from wavecore.learn.settings import WaveletLossSettings
from wavecore.model import build as build_module
from wavecore.model.groups import declared
from wavecore.model.layers import patches
from wavecore.model.scales import Scales, measured, names
from wavecore.model.settings import TimeLLMSettings
from wavecore.model.sparse import Sparse, dominant
from wavecore.model.streams import Streams, fastest_slow
from wavecore.model.time_llm import TimeLLM
from wavecore.model.wavelet_settings import SparseSettings, StreamsSettings, TokensSettings
from wavecore.model.wavelet_tokens import WaveletTokens
from wavecore.series.arrays import from_values
from wavecore.series.normalize import Scaler

LADDER = ("tokens", "loss", "streams", "sparse")
ALONE = tuple(f"only_{name}" for name in LADDER)
VARIANTS = tuple(s.name for s in stages.STAGES if s.root in ALONE and "." in s.name)
FEATURES = FeatureSettings(wavelet="db4", levels=4)
SCALES = Scales(FEATURES, {"dwt4": (0.5, 0.3, 0.15, 0.045, 0.005), "packet4": (0.4, 0.3, *([0.02] * 10), *([0.0] * 4))})


def of_stage(stage: str, folder: Path, **more: Any) -> TimeLLM:
    own = {"tokens": {"block": 4}, "sparse": {"count": 6}, **more.pop("model", {})}
    geometry = GEOMETRY
    if stage.endswith("levels5"):
        geometry = replace(
            GEOMETRY,
            features=replace(GEOMETRY.features, wavelet="haar"),
            energy={"dwt5": (0.5, 0.1, 0.1, 0.1, 0.1, 0.1)},
        )
    return made(stage, folder, geometry=geometry, **own, **more)


# --- every stage ------------------------------------------------------------------------------------------------------


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
        loss = gradients(model.train(), batch_of(2), Accelerator(cpu=True), Loss(settings, 12), step)
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


# --- W2: tokens -------------------------------------------------------------------------------------------------------


def tokens_of(window: int = 256, **settings: Any) -> WaveletTokens:
    torch.manual_seed(0)
    chosen = TokensSettings(enabled=True, **settings)
    return WaveletTokens(chosen, SCALES, window, (16, 8), 32, 8, 0.0).eval()


def series_of(rows: int = 3, window: int = 256) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((rows, window))).float()


def test_a_token_is_a_block_of_pywts_coefficients() -> None:
    tokens, x = tokens_of(), series_of()
    assert tokens.bands == ("A4", "D4", "D3", "D2"), "D1 holds less than one percent of the energy"
    parts = pywt.wavedec(x.numpy(), "db4", mode="periodization", level=4, axis=-1)[:4]
    expected = np.concatenate([p.reshape(3, -1, 16) for p in parts], axis=1)
    np.testing.assert_allclose(tokens.blocks(x).numpy(), expected, atol=1e-5)
    assert tokens.scale.tolist() == [0, 1, 2, 2, 3, 3, 3, 3]
    assert tokens.real.all()
    for i, middle in enumerate([128, 128, 64, 192, 32, 96, 160, 224]):
        # The long filters of slow bands look ahead: their coefficients lie up to 36 steps before their turn.
        assert -36 <= float(tokens.centre[i]) - middle <= 6
    found = tokens(x)
    usual = torch.tensor([(SCALES.energy["dwt4"][i] * 256 / n) ** 0.5 for i, n in enumerate((16, 16, 32, 64))])
    by_hand = torch.from_numpy(expected).float() / usual[tokens.scale, None] @ tokens.map.weight.T
    torch.testing.assert_close(found, by_hand + tokens.scale_embedding.weight[tokens.scale], rtol=1e-4, atol=1e-5)


def test_coefficients_are_those_of_the_asset() -> None:
    """On the fly and stored: the same numbers."""
    from wavecore.series.features import wavelet_coefficients
    from wavecore.series.normalize import instance_normalize, instance_statistics

    values = np.random.default_rng(1).standard_normal((400, 2)).cumsum(axis=0)
    arrays = from_values(np.arange("2024-01-01", "2024-01-17T16", dtype="datetime64[h]"), ["a", "b"], values)
    scaler = Scaler.fit(arrays, (0, 300))
    (stored,) = wavelet_coefficients(arrays, scaler, 256, FEATURES, np.array([3, 50]))
    x = scaler.transform(values)
    rows = np.stack([x[s : s + 256, c] for s in (3, 50) for c in (0, 1)])
    normalized = torch.from_numpy(instance_normalize(rows, *instance_statistics(rows))).float()
    found = tokens_of().blocks(normalized)
    parts = [stored[band].reshape(4, -1, 16) for band in ("A4", "D4", "D3", "D2")]
    np.testing.assert_allclose(found.numpy(), np.concatenate(parts, axis=1), atol=1e-5)


def test_packets_are_tokens_too() -> None:
    tokens, x = tokens_of(transform="packet"), series_of()
    assert tokens.bands == tuple(f"P{i}" for i in range(12))
    tree = pywt.WaveletPacket(x.numpy(), "db4", mode="periodization", maxlevel=4, axis=-1)
    expected = np.stack([n.data for n in tree.get_level(4, order="freq")[:12]], axis=1)
    np.testing.assert_allclose(tokens.blocks(x).numpy(), expected.reshape(3, 12, 16), atol=1e-5)


def test_a_short_last_block_is_filled_up() -> None:
    tokens = tokens_of(window=160)
    blocks = tokens.blocks(series_of(window=160))
    assert tokens.lengths[0] == 10
    assert torch.equal(blocks[:, 0, 10:], blocks[:, 0, 9:10].expand(-1, 6))
    assert tokens.real[0].tolist() == [True] * 10 + [False] * 6
    # What is filled up neither moves a token nor adds to its energy.
    assert abs(float(tokens.centre[0]) - 80) < 36
    total = torch.stack([p.square().sum(dim=-1) for p in tokens._parts(series_of(window=160))], dim=-1).sum(dim=1)
    torch.testing.assert_close((blocks.square() * tokens.real).sum(dim=(1, 2)), total)


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym4"])
@pytest.mark.parametrize("at", [60, 130, 250, 400])
def test_a_token_lies_where_its_coefficients_do(at: int, wavelet: str) -> None:
    """An event is found by the blocks that say they are there, band by band."""
    features = replace(FEATURES, wavelet=wavelet)
    settings = TokensSettings(enabled=True, block=2)
    tokens = WaveletTokens(settings, Scales(features, SCALES.energy), 512, (16, 8), 64, 8, 0.0)
    t = torch.arange(512.0)
    bump = torch.exp(-0.5 * ((t - at) / 6) ** 2)[None]
    energy = tokens.blocks(bump).square().sum(dim=-1)[0]
    for scale, length in enumerate(tokens.lengths):
        own = (tokens.scale == scale).nonzero()[:, 0]
        centre = (energy[own] * tokens.centre[own]).sum() / energy[own].sum()
        assert abs(float(centre) - at) <= 1.5 * 512 / length + 8


@pytest.mark.parametrize(("fusion", "shape"), [("concatenate", 40), ("mean", 32), ("attention", 32)])
def test_what_each_fusion_reads(fusion: str, shape: int) -> None:
    tokens, x = tokens_of(fusion=fusion), series_of()
    patched = torch.randn(3, 32, 8, generator=torch.Generator().manual_seed(1))
    found = tokens.fused(patched, tokens(x))
    assert found.shape == (3, shape, 8)
    if fusion == "attention":
        torch.testing.assert_close(found, patched + tokens.attend.out_proj.bias)
    if fusion == "mean":
        # Half itself; the other half the mean of the blocks that cover its middle, here patch 20: steps 160 to 175.
        blocks = [0, 1, 2 + 1, 4 + 2]
        by_hand = patched[:, 20] / 2 + tokens(x)[:, blocks].mean(dim=1) / 2
        torch.testing.assert_close(found[:, 20], by_hand)


def test_the_prompt_and_all_tokens_must_have_a_place(folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match="positions"):
        made("only_tokens", folders["bert"], prompt={"tokens": 1016}, tokens={"block": 1})


def test_bands_without_a_measured_energy_are_an_error() -> None:
    with pytest.raises(SettingsError, match="dwt5"):
        WaveletTokens(TokensSettings(enabled=True, levels=5), SCALES, 512, (16, 8), 64, 8, 0.0)


def test_levels_deeper_than_the_window_are_an_error() -> None:
    with pytest.raises(SettingsError, match="longer window"):
        WaveletTokens(TokensSettings(enabled=True), SCALES, 64, (16, 8), 8, 8, 0.0)


# --- what the bands of the train windows hold -------------------------------------------------------------------------


@pytest.mark.parametrize("transform", ["dwt", "packet"])
def test_energy_is_that_of_the_train_windows_alone(transform: Any) -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((500, 2)).cumsum(axis=0)
    times = np.arange(500).astype("datetime64[h]")
    arrays = from_values(times, ["a", "b"], values)
    found = measured(arrays, Scaler.fit(arrays, (0, 300)), (0, 300), 128, FEATURES, transform)
    later = values.copy()
    later[300:] += random.standard_normal((200, 2)) * 100
    changed = from_values(times, ["a", "b"], later)
    assert measured(changed, Scaler.fit(changed, (0, 300)), (0, 300), 128, FEATURES, transform) == found
    assert sum(found) == pytest.approx(1.0, abs=1e-5)
    shares = []
    for start in range(173):
        x = values[start : start + 128].T
        x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
        if transform == "dwt":
            parts = pywt.wavedec(x, "db4", mode="periodization", level=4, axis=-1)
        else:
            tree = pywt.WaveletPacket(x, "db4", mode="periodization", maxlevel=4, axis=-1)
            parts = [node.data for node in tree.get_level(4, order="freq")]
        energy = np.stack([np.square(p).sum(axis=-1) for p in parts], axis=-1)
        shares.append(energy / energy.sum(axis=-1, keepdims=True))
    np.testing.assert_allclose(found, np.mean(shares, axis=(0, 1)), atol=2e-6)


def test_a_constant_series_is_slow() -> None:
    arrays = from_values(np.arange(300).astype("datetime64[h]"), ["a"], np.full((300, 1), 7.0))
    assert measured(arrays, Scaler.fit(arrays, (0, 200)), (0, 200), 128, FEATURES, "dwt") == (1.0, 0.0, 0.0, 0.0, 0.0)


# --- W3: streams ------------------------------------------------------------------------------------------------------


def streams_of(**settings: Any) -> Streams:
    torch.manual_seed(0)
    return Streams(StreamsSettings(enabled=True, **settings), SCALES, 256, 8, torch.nn.Identity())  # type: ignore[arg-type]


def test_both_streams_sum_to_the_window_and_are_told_apart_by_period() -> None:
    streams = streams_of(fastest=4)
    t = torch.arange(256.0)
    slow, fast = torch.sin(2 * torch.pi * t / 64)[None], torch.sin(2 * torch.pi * t / 4)[None]
    low, high = streams.split(slow + fast)
    torch.testing.assert_close(low + high, slow + fast)
    # A trend is slow to its last step: the window's end is not joined to its beginning.
    trend = torch.linspace(-1.7, 1.7, 256)[None]
    assert float((streams.split(trend)[0] - trend).abs().max()) < 0.15
    assert float((low - slow).square().mean()) < 0.01
    assert float((high - fast).square().mean()) < 0.01


@pytest.mark.parametrize(
    ("share", "fastest"), [(0.3, 5), (0.5, 5), (0.51, 4), (0.8, 4), (0.9, 3), (0.96, 2), (0.999, 2)]
)
def test_the_split_is_chosen_by_energy(share: float, fastest: int) -> None:
    assert fastest_slow(StreamsSettings(enabled=True, slow_share=share), SCALES) == fastest


@pytest.mark.parametrize("fastest", [1, 6])
def test_a_split_that_leaves_nothing_is_an_error(fastest: int) -> None:
    with pytest.raises(SettingsError, match=r"streams\.fastest"):
        streams_of(fastest=fastest)


def test_prototypes_are_shared_out() -> None:
    prototypes = torch.arange(10.0).reshape(5, 2)
    slow, fast = streams_of().subsets(prototypes)
    assert slow[:, 0].tolist() == [0, 4, 8]
    assert fast[:, 0].tolist() == [2, 6]
    assert all(part is prototypes for part in streams_of(subsets=False).subsets(prototypes))


def test_the_gate_is_even_at_first_and_by_energy_exact() -> None:
    generator = torch.Generator().manual_seed(0)
    slow, fast = torch.randn(2, 3, 5, 8, generator=generator)
    slow_cut, fast_cut = torch.randn(2, 3, 5, 16, generator=generator)
    assert (streams_of().share(slow, fast, slow_cut, fast_cut) == 0.5).all()
    slow_cut[0, 0] = fast_cut[0, 0] = 0
    fast_cut[0, 1] = 0
    found = streams_of(gate="energy").share(slow, fast, slow_cut, fast_cut)
    assert found[0, :2, 0].tolist() == [0.5, 1.0]
    expected = slow_cut[1, 2].square().sum() / (slow_cut[1, 2].square().sum() + fast_cut[1, 2].square().sum())
    torch.testing.assert_close(found[1, 2, 0], expected)


def test_a_wavelet_token_is_of_one_stream() -> None:
    tokens = tokens_of()
    assert tokens.slower(4).tolist() == [True, True, *([False] * 6)]
    assert tokens.slower(5).tolist() == [True, *([False] * 7)]
    # Of 16 packets the two slowest are as slow as D4 and A4 together, and four as D3.
    assert tokens_of(transform="packet").slower(4).tolist() == [True, True, *([False] * 10)]
    assert int(tokens_of(transform="packet").slower(3).sum()) == 4


# --- W5: sparse -------------------------------------------------------------------------------------------------------


def sparse_of(wavelets: WaveletTokens | None = None, window: int = 256, **settings: Any) -> Sparse:
    return Sparse(SparseSettings(enabled=True, **settings), SCALES, window, (16, 8), 32, wavelets)


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


def test_every_scale_of_wavelet_tokens_stays() -> None:
    """Also where one holds next to nothing: what it says is averaged into a token of its own scale, never another's."""
    wavelets = tokens_of()
    sparse, x = sparse_of(wavelets, keep="count", count=5), series_of()
    for m, kept in enumerate(sparse.groups(x, 5).kept.tolist()):
        assert {int(sparse.scale[k]) for k in kept} == {-1, 0, 1, 2, 3}
        assert kept[-1] == 39, m
    with pytest.raises(SettingsError, match="5 always stay"):
        sparse_of(wavelets, keep="count", count=4)


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
