"""Parts of the wavelet stages, for tests: small, with known scales."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from language import GEOMETRY, made
from torch import Tensor

from wavecore.config import FeatureSettings
from wavecore.model.scales import Scales
from wavecore.model.sparse import Sparse
from wavecore.model.streams import Streams
from wavecore.model.time_llm import TimeLLM
from wavecore.model.wavelet_settings import SparseSettings, StreamsSettings, TokensSettings
from wavecore.model.wavelet_tokens import WaveletTokens

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


def tokens_of(window: int = 256, **settings: Any) -> WaveletTokens:
    torch.manual_seed(0)
    chosen = TokensSettings(enabled=True, **settings)
    return WaveletTokens(chosen, SCALES, window, (16, 8), 32, 8, 0.0).eval()


def series_of(rows: int = 3, window: int = 256) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).standard_normal((rows, window))).float()


def streams_of(**settings: Any) -> Streams:
    torch.manual_seed(0)
    return Streams(StreamsSettings(enabled=True, **settings), SCALES, 256, 8, torch.nn.Identity())  # type: ignore[arg-type]


def sparse_of(wavelets: WaveletTokens | None = None, window: int = 256, **settings: Any) -> Sparse:
    return Sparse(SparseSettings(enabled=True, **settings), SCALES, window, (16, 8), 32, wavelets)
