"""Wavelet tokens (W2), and what the bands of the train windows hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pywt
import torch
from language import made
from wavelet_parts import FEATURES, SCALES, series_of, tokens_of

from wavecore.errors import SettingsError
from wavecore.model.scales import Scales, measured
from wavecore.model.wavelet_settings import TokensSettings
from wavecore.model.wavelet_tokens import WaveletTokens
from wavecore.series.arrays import from_values
from wavecore.series.normalize import Scaler


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
