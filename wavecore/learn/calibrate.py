"""A token budget's sizes, chosen on `decide` under the user's tolerance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from wavecore.config import TrainSettings
from wavecore.errors import SettingsError
from wavecore.learn.device import accelerator, place_of, threads
from wavecore.learn.forecast import evaluating
from wavecore.learn.loop import evaluate
from wavecore.learn.schedule import validation_subset
from wavecore.model import looking
from wavecore.model.budget import falling, schedules
from wavecore.model.settings import Size
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
    would give away what a larger one has.) Then, with that size, the facts about the window are seen in as few layers
    as stay within it, and then description and task. With `budget.shared` all at once: of all sizes within the
    tolerance the one that reads the fewest tokens. Early stopping has never seen `decide`, and nothing here sees the
    test windows. The tolerance is held on the windows that the choice is made on.

    Args:
        model: trained, with a token budget.
        settings: of the training run.

    Returns:
        what was tried, in order: everything read, then fewer and fewer patches, then of the prompt the least first, up
        to the first that is within the tolerance. Of each: tokens (of a window, mean over some), facts and depth (see
        `wavecore.model.settings.Size`), prompt (prompt tokens a layer sees, mean), error, within (the tolerance) and
        chosen.

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
        batches = list(_looked_at(placed, borders, settings.batch_windows))
        with engine.autocast():
            influence = measured_influence(model, placed, borders, settings.batch_windows)
        layers, width = influence.shape

        def tried(size: Size, threshold: float) -> dict[str, Any]:
            hold(model, size, influence, threshold)
            error = evaluate(model, placed, chosen, engine, settings)
            rows.append(
                {
                    "tokens": float(torch.cat([model.needed(x) for x in batches]).float().mean()),
                    "facts": size.facts,
                    "depth": size.depth,
                    "prompt": float(budget.told[:, :width].sum(dim=1).float().mean()),
                    "error": error,
                    "within": False,
                    "chosen": False,
                }
            )
            return rows[-1]

        # Cheapest first; everything read is the last of them and the first to be scored.
        candidates = [*_candidates(model, batches), (budget.patches, 0.0)]
        scored = [tried(Size(n, layers, layers), threshold) for n, threshold in reversed(candidates)][::-1]
        limit = min(row["error"] for row in scored) * (1 + budget.settings.tolerance)
        for row in scored:
            row["within"] = row["error"] <= limit
        place_in = next(i for i, row in enumerate(scored) if row["within"])
        best, (tokens, threshold) = scored[place_in], candidates[place_in]
        size = Size(tokens, layers, layers)

        def first(sizes: Iterable[Size]) -> None:
            """Take the first that is within the tolerance, if there is one."""
            nonlocal best, size
            for one in sizes:
                row = tried(one, threshold)
                if row["error"] <= limit:
                    row["within"] = True
                    best, size = row, one
                    return

        if budget.settings.shared and budget.settings.prompt:
            first(_by_cost(model, influence, size))
        elif budget.settings.prompt:
            first([size._replace(facts=facts) for facts in range(1, layers)])
            first([size._replace(depth=depth) for depth in range(size.facts, layers)])
        hold(model, size, influence, threshold)
    best["chosen"] = True
    return rows


def hold(model: TimeLLM, size: Size, influence: Tensor, threshold: float = 0.0) -> None:
    """Let a model's budget read so much from now on.

    Args:
        influence: [layers, P], see `measured_influence`.
        threshold: of the evidence that a further token must have, where windows differ in what they need.

    Raises:
        SettingsError: a number of patches that the budget does not try, or layers that are not there.
    """
    budget, prompter = model.budget, model.prompter
    assert budget is not None
    assert prompter is not None
    layers = len(budget.told)
    if size.tokens not in budget.sizes or not 1 <= size.facts <= size.depth <= layers:
        raise SettingsError(
            f"{size.tokens} tokens, facts in {size.facts} and description and task in {size.depth} layers: no size of "
            "this budget",
            f"tokens: {', '.join(map(str, budget.sizes))}; layers: 1 ≤ facts ≤ depth ≤ {layers}",
        )
    told = falling(influence, len(prompter.fixed_ids), size.facts, size.depth)
    budget.tokens.fill_(size.tokens)
    # Beyond the longest prompt seen here a prompt's tokens count as its last one does.
    budget.told[:] = told[:, -1:]
    budget.told[:, : told.shape[1]] = told
    budget.threshold.fill_(threshold)


def measured_influence(model: TimeLLM, data: WindowData, borders: Borders, batch_windows: int) -> Tensor:
    """Of each prompt token in each layer, [layers, P]: mean over series of some windows of `decide`; a place that a
    batch's longest prompt has not counts as 0 there."""
    parts, series = [], []
    with evaluating(model), torch.inference_mode():
        for x in _looked_at(data, borders, batch_windows):
            parts.append(looking.influence(model, x).cpu() * len(x))
            series.append(len(x))
    width = max(part.shape[1] for part in parts)
    widened = [torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts]
    return torch.stack(widened).sum(dim=0) / sum(series)


def _looked_at(data: WindowData, borders: Borders, batch_windows: int) -> Iterator[Tensor]:
    """Some windows [B, T, N] of `decide`, the same for every model, batch by batch."""
    some = validation_subset(origins(borders, "decide", data.window, data.horizon), LOOKED_AT)
    return (data.batch(some[i : i + batch_windows]).x for i in range(0, len(some), batch_windows))


def most_windows(model: Any, data: WindowData, borders: Borders) -> int:
    """How many windows `calibrate` forecasts at most, for an estimate of its time."""
    budget = model.budget
    chosen = validation_subset(origins(borders, "decide", data.window, data.horizon), budget.settings.windows)
    layers = len(budget.told)
    # The facts in 1, 2, … layers, then from there on description and task.
    further = len(budget.sizes) * (len(schedules(layers)) - 1) if budget.settings.shared else layers
    return len(chosen) * (len(budget.sizes) + (further if budget.settings.prompt else 0))


def _by_cost(model: TimeLLM, influence: Tensor, most: Size) -> list[Size]:
    """The sizes that read fewer tokens than `most`, the fewest first; without those that see the whole prompt in every
    layer, which are scored already."""
    assert model.budget is not None
    assert model.prompter is not None
    layers, fixed = len(influence), len(model.prompter.fixed_ids)
    read = {pair: int(falling(influence, fixed, *pair).sum()) for pair in schedules(layers)}

    def cost(size: Size) -> int:
        return size.tokens * layers + read[size[1:]]

    some = (Size(tokens, *pair) for tokens in model.budget.sizes for pair in read if pair[0] < layers)
    return sorted((size for size in some if cost(size) < cost(most)), key=lambda size: (cost(size), size))


def _candidates(model: TimeLLM, batches: list[Tensor]) -> list[tuple[int, float]]:
    """What is tried, the cheapest first: the most tokens of a window, and the evidence that a further one must have."""
    budget = model.budget
    assert budget is not None
    fewer = budget.sizes[:-1]
    if not budget.settings.per_window:
        return [(size, 0.0) for size in fewer]
    evidence = torch.cat([looking.evidence(model, x, fewer[-1]) for x in batches])
    # Half of the windows want `size` tokens or fewer.
    return [(fewer[-1], float(evidence[:, size].median())) for size in fewer[:-1]] + [(fewer[-1], 0.0)]
