"""Do the two premises of a token budget hold for a model of ours? (B6)

One: patches contribute unevenly to their window's spectrum, so that a few hold most of the evidence. Two: what a prompt
does to the patches falls with depth.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from wavecore.errors import SettingsError
from wavecore.learn.forecast import device_of, evaluating
from wavecore.learn.schedule import validation_subset
from wavecore.model.budget import group
from wavecore.model.layers import patches
from wavecore.model.looking import influence as influence_of
from wavecore.model.spectrum import contribution, spectra
from wavecore.model.time_llm import TimeLLM, Use
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData


def premises(
    model: TimeLLM, data: WindowData, borders: Borders, windows: int = 64, batch_windows: int = 8
) -> dict[str, Any]:
    """Measure both on windows of `decide`, in float32.

    Args:
        model: trained, with a language model whose prompt is computed apart (`computation: cached`).
        windows: how many, a fixed draw.
        batch_windows: at once.

    Returns:
        patches: L.
        contribution: [L], share of a window's whitened spectrum that the k + 1 most contributing patches hold; mean.
        evidence: [L - 1], distance of the next patch kept from all kept before, over that of the first; mean.
        influence: per layer the shares of the patches' attention that go to description and task, and to the facts.
        cut: per depth d (the prompt seen in the first d layers only): depth, error on `decide`, and two root mean
        squares over the standard deviation of the forecasts: change, from those with the prompt in all layers, which
        counts all layers behind d; and added, from those of one layer less, which is layer d's own (0 at depth 0).

    Raises:
        SettingsError: the model has no prompt to cut.
    """
    if model.backbone is None or model.prompter is None or model.settings.computation == "plain":
        raise SettingsError("premises: the model has no prompt that is computed apart", "choose base, prompt or budget")
    if model.linear is not None:
        raise SettingsError("premises: the model's forecast is not the language model's alone", "choose base or prompt")
    chosen = validation_subset(origins(borders, "decide", data.window, data.horizon), windows)
    placed = data.to(device_of(model))
    settings = model.settings.budget
    shares, evidence, told, fixed = [], [], [], len(model.prompter.fixed_ids)
    layers = model.backbone.layers
    forecasts: list[list[np.ndarray]] = [[] for _ in range(layers + 1)]
    errors = np.zeros((layers + 1, 2))
    step = batch_windows
    with evaluating(model), torch.inference_mode():
        for start in range(0, len(chosen), step):
            batch = placed.batch(chosen[start : start + step])
            series, _, _ = model.normalized(batch.x)
            cut = patches(series, *model.patch)
            shares.append(contribution(cut, settings).sort(dim=-1, descending=True).values.cumsum(dim=-1))
            turn = group(spectra(cut, settings), model.patches).in_turn()[:, 1:]
            evidence.append(turn / turn[:, :1].clamp_min(1e-12))
            influence = influence_of(model, batch.x)
            told.append(torch.stack([influence[:, :fixed].sum(-1), influence[:, fixed:].sum(-1)], dim=-1) * len(series))
            for depth in range(layers + 1):
                seen = torch.zeros_like(influence, dtype=torch.bool)
                seen[:depth] = True
                ahead = model.trace(batch.x, use=Use(model.patches, None if depth == layers else seen)).forecast
                forecasts[depth].append(ahead.cpu().numpy())
                errors[depth] += ((ahead - batch.y).square() * batch.mask).sum().item(), batch.mask.sum().item()
    ahead_at = [np.concatenate(parts) for parts in forecasts]
    whole = ahead_at[layers]
    spread = float(whole.std()) or 1.0

    def apart(one: np.ndarray, other: np.ndarray) -> float:
        return float(np.sqrt(np.square(one - other).mean()) / spread)

    series_seen = sum(len(part) for part in shares)
    mean = torch.stack(told).sum(dim=0) / series_seen
    return {
        "patches": model.patches,
        "contribution": torch.cat(shares).mean(dim=0).tolist(),
        "evidence": torch.cat(evidence).mean(dim=0).tolist(),
        "influence": mean.tolist(),
        "cut": [
            {
                "depth": depth,
                "error": float(errors[depth, 0] / errors[depth, 1]),
                "change": apart(ahead_at[depth], whole),
                "added": apart(ahead_at[depth], ahead_at[max(0, depth - 1)]),
            }
            for depth in range(layers + 1)
        ],
    }
