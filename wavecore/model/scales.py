"""What a model knows of its benchmark's wavelet scales before it is trained: how they are cut, how much each holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from wavecore.config import FeatureSettings
from wavecore.errors import SettingsError
from wavecore.model.wavelet_settings import StreamsSettings, TokensSettings
from wavecore.series.arrays import SeriesArrays
from wavecore.series.features import window_rows
from wavecore.series.normalize import Scaler
from wavecore.wavelet.operators import Analysis, Packets
from wavecore.wavelet.transform import bands

Transform = Literal["dwt", "packet"]
# Train windows, spread evenly, whose energy stands for that of all.
LOOKED_AT = 512


@dataclass(frozen=True)
class Scales:
    """The scales of one benchmark.

    Attributes:
        features: wavelet, mode and levels.
        energy: {"dwt4": mean energy share per band over the train windows, slow to fast, …}; see `key`.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    energy: Mapping[str, tuple[float, ...]] = field(default_factory=dict, hash=False)

    def at(self, levels: int) -> FeatureSettings:
        """The settings of a decomposition of another depth; 0: of the features' own."""
        return replace(self.features, levels=levels) if levels else self.features

    def shares(self, transform: Transform, levels: int) -> tuple[float, ...]:
        """Energy share per band, slow to fast.

        Raises:
            SettingsError: it was not measured.
        """
        wanted = key(transform, self.at(levels).levels)
        if wanted not in self.energy:
            raise SettingsError(
                f"the energy of the bands ({wanted}) of the train windows is not known",
                "measure it with `wavecore.model.scales.measured` and give it to the model's geometry",
            )
        return self.energy[wanted]


def key(transform: Transform, levels: int) -> str:
    """The name of one decomposition: `dwt4`."""
    return f"{transform}{levels}"


def names(transform: Transform, levels: int) -> tuple[str, ...]:
    """Names of the bands, slow to fast: of packets `P0`, `P1`, …"""
    return bands(levels) if transform == "dwt" else tuple(f"P{i}" for i in range(2**levels))


def decompositions(tokens: TokensSettings, streams: StreamsSettings) -> tuple[tuple[Transform, int], ...]:
    """Which decompositions' energy a stage with these settings chooses bands by: transform and levels, 0 for those of
    the features."""
    found: list[tuple[Transform, int]] = [(tokens.transform, tokens.levels)] if tokens.enabled else []
    if streams.enabled and not streams.fastest:
        found.append(("dwt", 0))
    return tuple(dict.fromkeys(found))


def measured(
    arrays: SeriesArrays,
    scaler: Scaler,
    train: tuple[int, int],
    window: int,
    features: FeatureSettings,
    transform: Transform,
) -> tuple[float, ...]:
    """Mean energy share of each band over windows that lie in the train rows, as `Scales.energy` wants it.

    Windows are instance-normalized; a constant one has no energy and does not count. Rounded to six digits, so that
    another machine makes the same choice of it.

    Raises:
        SettingsError: a decomposition that the window does not allow.
    """
    operator = Analysis(features, window) if transform == "dwt" else Packets(features, window)
    last = train[1] - window
    starts = np.unique(np.linspace(train[0], max(last, train[0]), LOOKED_AT).astype(np.int64))
    total, count = np.zeros(len(names(transform, features.levels))), 0
    for chunk in window_rows(arrays, scaler, window, features, starts):
        with torch.inference_mode():
            found = operator(torch.from_numpy(chunk.normalized))
        parts = list(found.values()) if isinstance(found, dict) else list(found.unbind(dim=-2))
        energy = torch.stack([part.square().sum(dim=-1) for part in parts], dim=-1).numpy()
        moving = energy.sum(axis=-1) > 0
        total += (energy[moving] / energy[moving].sum(axis=-1, keepdims=True)).sum(axis=0)
        count += int(moving.sum())
    if not count:
        # Nothing moves: as in a constant window, all there is is slow.
        total[0], count = 1.0, 1
    return tuple(float(share) for share in np.round(total / count, 6))
