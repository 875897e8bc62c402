"""Analysis operators of torch against PyWavelets, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wavecore.config import FeatureSettings
from wavecore.errors import SettingsError
from wavecore.wavelet.operators import Analysis, Components, Packets
from wavecore.wavelet.transform import bands, max_levels

WAVELETS = ("haar", "db2", "db4", "sym4", "coif1", "bior2.2")
LENGTHS = (96, 97, 63, 24)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}


def settings_of(wavelet: str, mode: str, levels: int) -> FeatureSettings:
    return FeatureSettings(wavelet=wavelet, mode=mode, levels=levels)


def rows(length: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((2, 3, length))).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", pywt.Modes.modes)
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_bands_are_those_of_pywt(wavelet: str, mode: str, dtype: torch.dtype) -> None:
    for length in LENGTHS:
        x = rows(length, dtype)
        for levels in range(1, max_levels(wavelet, length) + 1):
            found = Analysis(settings_of(wavelet, mode, levels), length)(x)
            expected = pywt.wavedec(x.double().numpy(), wavelet, mode=mode, level=levels, axis=-1)
            assert tuple(found) == bands(levels)
            for part, oracle in zip(found.values(), expected, strict=True):
                assert part.dtype == dtype
                # `smooth` runs on along the last slope: a level's ends may be a hundred times the window.
                largest = max(1.0, float(np.abs(oracle).max()))
                np.testing.assert_allclose(part.double().numpy() / largest, oracle / largest, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("mode", ["periodization", "symmetric", "zero"])
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_packets_are_those_of_pywt(wavelet: str, mode: str) -> None:
    for length in (96, 97):
        x = rows(length, torch.float64)
        for levels in range(1, max_levels(wavelet, length) + 1):
            found = Packets(settings_of(wavelet, mode, levels), length)(x)
            tree = pywt.WaveletPacket(x.numpy(), wavelet, mode=mode, maxlevel=levels, axis=-1)
            expected = np.stack([node.data for node in tree.get_level(levels, order="freq")], axis=-2)
            np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("mode", pywt.Modes.modes)
def test_gradients_are_those_of_the_operator(mode: str) -> None:
    analysis, packets = (make(settings_of("db2", mode, 2), 17) for make in (Analysis, Packets))
    x = rows(17, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda t: tuple(analysis(t).values()), (x,))
    assert torch.autograd.gradcheck(packets, (x,))


@pytest.mark.parametrize("wavelet", ["haar", "db4", "sym4"])
def test_energies_of_an_orthogonal_wavelet_sum_to_the_signals(wavelet: str) -> None:
    x = rows(96, torch.float64)
    for make in (Analysis, Packets):
        found = make(settings_of(wavelet, "periodization", 2), 96)(x)
        parts = found.values() if isinstance(found, dict) else (found.flatten(-2),)
        total = torch.stack([part.square().sum(dim=-1) for part in parts]).sum(dim=0)
        torch.testing.assert_close(total, x.square().sum(dim=-1), rtol=1e-10, atol=0)


def test_nothing_of_an_operator_is_saved_or_trained() -> None:
    for make in (Analysis, Packets, Components):
        operator = make(settings_of("db4", "symmetric", 2), 96)
        assert not operator.state_dict()
        assert not list(operator.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("wavelet", WAVELETS)
def test_components_are_pywts_bands_as_series(wavelet: str, dtype: torch.dtype) -> None:
    for length in LENGTHS:
        x = rows(length, dtype)
        for levels in range(1, max_levels(wavelet, length) + 1):
            found = Components(settings_of(wavelet, "periodization", levels), length)(x)
            assert found.dtype == dtype
            parts = pywt.wavedec(x.double().numpy(), wavelet, mode="symmetric", level=levels, axis=-1)
            for band in range(levels + 1):
                alone = [part if i == band else np.zeros_like(part) for i, part in enumerate(parts)]
                oracle = pywt.waverec(alone, wavelet, mode="symmetric", axis=-1)[..., :length]
                np.testing.assert_allclose(found[..., band, :].numpy(), oracle, atol=TOLERANCE[dtype])
            torch.testing.assert_close(found.sum(dim=-2), x, rtol=0, atol=TOLERANCE[dtype])


def test_components_take_memory_by_the_step_not_by_its_square() -> None:
    def held(window: int) -> int:
        return sum(b.numel() for b in Components(settings_of("db4", "periodization", 4), window).buffers())

    assert held(3072) < 1.1 * 3 * held(1024)


@pytest.mark.parametrize("at", [20, 256, 480, 500])
@pytest.mark.parametrize("width", [4, 16, 40])
def test_components_lie_where_the_window_has_them(at: int, width: int) -> None:
    t = np.arange(512)
    bump = np.exp(-0.5 * ((t - at) / width) ** 2)
    found = Components(settings_of("db4", "periodization", 4), 512)(torch.from_numpy(bump)[None])[0]
    power = found.square().sum(dim=0).numpy()
    true = np.square(bump)
    assert abs((power * t).sum() / power.sum() - (true * t).sum() / true.sum()) < 4 + width / 8


@pytest.mark.parametrize("make", [Analysis, Packets])
@pytest.mark.parametrize(
    ("wavelet", "mode", "levels", "named"),
    [("dv4", "zero", 1, "db4"), ("db4", "zeros", 1, "zero"), ("db4", "zero", 9, "set levels to 3")],
)
def test_what_cannot_be_computed_is_one_error(make: type, wavelet: str, mode: str, levels: int, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        make(settings_of(wavelet, mode, levels), 96)
