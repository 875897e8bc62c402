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

# Windows on which influence and needs are measured, beside those that are scored.
LOOKED_AT = 32


def calibrate(model: TimeLLM, data: WindowData, borders: Borders, settings: TrainSettings) -> list[dict[str, Any]]:
    """Choose how many patches are read and how deep the prompt is seen, and leave the choice in the model's budget.

    First the patches, the prompt seen in full: of all sizes the smallest whose error is within the tolerance of the
    lowest one's. (Everything read is not always the best: where it is not, a size that is only no worse than that
    would give away what a larger one has.) Then, with that size, the prompt is taken from one layer after the other,
    deepest first, until the error is no longer within it. With `budget.shared` both at once: of all pairs within the
    tolerance the one that reads the fewest tokens. Early stopping has never seen `decide`, and nothing here sees the
    test windows. The tolerance is held on the windows that the choice is made on.

    Args:
        model: trained, with a token budget.
        settings: of the training run.

    Returns:
        what was tried, in order, everything read first, then the other sizes from the largest on: tokens (of a window,
        mean over some), depth (layers that see the whole prompt), prompt (prompt tokens a layer sees, mean), error,
        within (the tolerance) and chosen.

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
        # Spread over all of `decide`, batch by batch.
        some = chosen[:: max(1, len(chosen) // LOOKED_AT)]
        batches = [
            placed.batch(some[i : i + settings.batch_windows]).x for i in range(0, len(some), settings.batch_windows)
        ]
        with evaluating(model), torch.inference_mode(), engine.autocast():
            influence = _mean([model.influence(x).cpu() for x in batches])
        layers, width = influence.shape
        assert model.prompter is not None
        fixed = len(model.prompter.fixed_ids)

        def tried(size: int, depth: int, threshold: float) -> dict[str, Any]:
            _set(budget, size, falling(influence, depth, fixed), threshold)
            error = evaluate(model, placed, chosen, engine, settings)
            rows.append(
                {
                    "tokens": float(torch.cat([model.needed(x) for x in batches]).float().mean()),
                    "depth": depth,
                    "prompt": float(budget.told[:, :width].sum(dim=1).float().mean()),
                    "error": error,
                    "within": False,
                    "chosen": False,
                }
            )
            return rows[-1]

        # Cheapest first; everything read is the last of them and the first to be scored.
        sizes = [*_candidates(model, batches), (budget.patches, 0.0)]
        scored = [tried(size, layers, threshold) for size, threshold in reversed(sizes)][::-1]
        limit = min(row["error"] for row in scored) * (1 + budget.settings.tolerance)
        for row in scored:
            row["within"] = row["error"] <= limit
        place_in = next(i for i, row in enumerate(scored) if row["within"])
        best, (size, threshold), depth = scored[place_in], sizes[place_in], layers
        depths = range(1, layers) if budget.settings.prompt else ()
        if budget.settings.shared:
            further = _by_cost(budget, influence, fixed, depths, (size, layers))
        else:
            further = [(size, fewer) for fewer in reversed(depths)]
        for most, fewer in further:
            row = tried(most, fewer, threshold)
            row["within"] = row["error"] <= limit
            if row["within"]:
                best, size, depth = row, most, fewer
            # The cheapest pair ends the search; else the first depth that costs too much.
            if row["within"] == budget.settings.shared:
                break
        _set(budget, size, falling(influence, depth, fixed), threshold)
    best["chosen"] = True
    return rows


def most_windows(model: Any, data: WindowData, borders: Borders) -> int:
    """How many windows `calibrate` forecasts at most, for an estimate of its time."""
    budget = model.budget
    chosen = validation_subset(origins(borders, "decide", data.window, data.horizon), budget.settings.windows)
    depths = len(budget.told) - 1 if budget.settings.prompt else 0
    pairs = len(budget.sizes) * depths if budget.settings.shared else depths
    return len(chosen) * (len(budget.sizes) + pairs)


def _by_cost(
    budget: TokenBudget, influence: Tensor, fixed: int, depths: range | tuple[()], most: tuple[int, int]
) -> list[tuple[int, int]]:
    """The pairs of a number of patches and a depth of the prompt that read less than the pair `most`, the least first;
    without those that see the whole prompt in every layer, which are scored already."""

    def cost(size: int, depth: int) -> int:
        return size * len(influence) + int(falling(influence, depth, fixed).sum())

    pairs = [(size, depth) for size in budget.sizes for depth in depths]
    return sorted((p for p in pairs if cost(*p) < cost(*most)), key=lambda p: (cost(*p), p))


def _mean(parts: list[Tensor]) -> Tensor:
    """Mean of [layers, P] over batches whose longest prompts differ; a place that a batch has not counts as 0 there."""
    width = max(part.shape[1] for part in parts)
    return torch.stack([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]).mean(dim=0)


def _candidates(model: TimeLLM, batches: list[Tensor]) -> list[tuple[int, float]]:
    """What is tried, the cheapest first: the most tokens of a window, and the evidence that a further one must have."""
    budget = model.budget
    assert budget is not None
    fewer = budget.sizes[:-1]
    if not budget.settings.per_window:
        return [(size, 0.0) for size in fewer]
    evidence = torch.cat([model.evidence(x, fewer[-1]) for x in batches])
    # Half of the windows want `size` tokens or fewer.
    return [(fewer[-1], float(evidence[:, size].median())) for size in fewer[:-1]] + [(fewer[-1], 0.0)]


def _set(budget: TokenBudget, tokens: int, told: Tensor, threshold: float) -> None:
    budget.tokens.fill_(tokens)
    # Beyond the longest prompt seen here a prompt's tokens count as its last one does.
    budget.told[:] = told[:, -1:]
    budget.told[:, : told.shape[1]] = told
    budget.threshold.fill_(threshold)
