"""A token budget's sizes, chosen on `decide` under the user's tolerance."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from wavecore.config import TrainSettings
from wavecore.learn.device import accelerator, place_of, threads
from wavecore.learn.forecast import evaluating
from wavecore.learn.loop import evaluate
from wavecore.learn.schedule import validation_subset
from wavecore.model.budget import TokenBudget, falling
from wavecore.model.time_llm import TimeLLM
from wavecore.seeds import isolated
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData


def calibrate(model: TimeLLM, data: WindowData, borders: Borders, settings: TrainSettings) -> list[dict[str, Any]]:
    """Choose how many patches are read and how deep the prompt is seen, and leave the choice in the model's budget.

    First the patches, the prompt seen in full: the smallest size whose error is within the tolerance of the same
    model's with everything read. Then, with that size, the smallest depth of the prompt that stays within it. With
    `budget.shared` both at once: of all pairs that stay within it the one that reads the fewest tokens. Early stopping
    has never seen `decide`, and nothing here sees the test windows.

    Args:
        model: trained, with a token budget.
        settings: of the training run.

    Returns:
        what was tried, in order, everything read first: tokens (of a window, mean), depth (layers that see the whole
        prompt), prompt (prompt tokens a layer sees, mean), error, within (the tolerance) and chosen.

    Raises:
        SettingsError: `decide` has not one window.
        DataError: none of its targets was observed.
    """
    budget = model.budget
    assert budget is not None
    chosen = validation_subset(origins(borders, "decide", data.window, data.horizon), budget.settings.windows)
    place = place_of(settings)
    rows: list[dict[str, Any]] = []
    with threads(settings.threads), isolated(torch.device(place.device)), accelerator(place) as engine:
        placed = data.to(engine.device)
        model.to(engine.device)
        few = placed.batch(chosen[: settings.batch_windows]).x
        with evaluating(model), torch.inference_mode(), engine.autocast():
            influence = model.influence(few).cpu()
        layers, width = influence.shape
        fixed = len(model.prompter.fixed_ids) if model.prompter is not None else 0
        limit = float("inf")

        def tried(size: int, depth: int, threshold: float) -> dict[str, Any]:
            _set(budget, size, falling(influence, depth, fixed), threshold)
            error = evaluate(model, placed, chosen, engine, settings)
            rows.append(
                {
                    "tokens": float(model.needed(few).float().mean()),
                    "depth": depth,
                    "prompt": float(budget.told[:, :width].sum(dim=1).float().mean()),
                    "error": error,
                    "within": error <= limit,
                    "chosen": False,
                }
            )
            return rows[-1]

        best, (size, depth, threshold) = tried(budget.patches, layers, 0.0), (budget.patches, layers, 0.0)
        limit = best["error"] * (1 + budget.settings.tolerance)
        depths = range(1, layers) if budget.settings.prompt else ()
        if budget.settings.shared:
            for choice in _by_cost(budget, influence, fixed, depths):
                row = tried(*choice)
                if row["within"]:
                    best, (size, depth, threshold) = row, choice
                    break
        else:
            for most, least in _candidates(model, few):
                row = tried(most, layers, least)
                if row["within"]:
                    best, size, threshold = row, most, least
                    break
            for fewer in reversed(depths):
                row = tried(size, fewer, threshold)
                if not row["within"]:
                    break
                best, depth = row, fewer
        _set(budget, size, falling(influence, depth, fixed), threshold)
    best["chosen"] = best["within"] = True
    return rows


def _by_cost(
    budget: TokenBudget, influence: Tensor, fixed: int, depths: range | tuple[()]
) -> list[tuple[int, int, float]]:
    """All pairs of a number of patches and a depth of the prompt but the whole, fewest tokens read first."""
    layers = len(influence)

    def cost(size: int, depth: int) -> int:
        return size * layers + int(falling(influence, depth, fixed).sum())

    pairs = [(size, depth, 0.0) for size in budget.sizes for depth in (*depths, layers)]
    return sorted((p for p in pairs if p[:2] != (budget.patches, layers)), key=lambda p: (cost(*p[:2]), p))


def _candidates(model: TimeLLM, x: Tensor) -> list[tuple[int, float]]:
    """What is tried, the cheapest first: the most tokens of a window, and the evidence that a further one must have."""
    budget = model.budget
    assert budget is not None
    fewer = budget.sizes[:-1]
    if not budget.settings.per_window:
        return [(size, 0.0) for size in fewer]
    evidence = model.evidence(x, fewer[-1])
    # Half of the windows want `size` tokens or fewer.
    return [(fewer[-1], float(evidence[:, size].median())) for size in fewer[:-1]] + [(fewer[-1], 0.0)]


def _set(budget: TokenBudget, tokens: int, told: Tensor, threshold: float) -> None:
    budget.tokens.fill_(tokens)
    # Beyond the longest prompt seen here a prompt's tokens count as its last one does.
    budget.told[:] = told[:, -1:]
    budget.told[:, : told.shape[1]] = told
    budget.threshold.fill_(threshold)
