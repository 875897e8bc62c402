"""Two streams (W3): what is slow and what is fast in a window, and the gate between them."""

from __future__ import annotations

import pytest
import torch
from wavelet_parts import SCALES, streams_of, tokens_of

from wavecore.errors import SettingsError
from wavecore.model.streams import fastest_slow
from wavecore.model.wavelet_settings import StreamsSettings


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
