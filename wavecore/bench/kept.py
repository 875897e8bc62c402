"""`kept`: the error and the time of a trained budget at each of its sizes, on windows of the test split.

All sizes forecast the same windows, batch by batch in turn, and so does the model that they are held against: a
trained one without a budget, or the same one with everything read.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from wavecore.bench.models import device, forecasts
from wavecore.bench.rows import Row, clocked
from wavecore.errors import SettingsError
from wavecore.learn.calibrate import hold, measured_influence
from wavecore.learn.losses import masked_sum
from wavecore.model.settings import Size
from wavecore.model.time_llm import TimeLLM
from wavecore.series.splits import Borders, origins
from wavecore.series.windows import WindowData


@dataclass(eq=False)
class _Tried:
    """One size: squared errors and their number, and the seconds of each batch."""

    size: Size
    prompt: float
    total: float = 0.0
    count: int = 0
    seconds: list[float] = field(default_factory=list)


def kept(
    model: TimeLLM,
    data: WindowData,
    borders: Borders,
    dtype: Literal["float32", "bf16"] = "float32",
    windows: int = 128,
    batch_windows: int = 16,
    threads: int = 2,
    against: TimeLLM | None = None,
    backbone: str = "minilm",
) -> Iterator[Row]:
    """A row per size, what everything is held against first.

    Args:
        model: trained, with a budget whose sizes were chosen.
        data, borders: the benchmark's; influence is measured on windows of `decide`, errors on `test`.
        dtype: of the layers.
        windows: of the test split, spread evenly over all of it.
        batch_windows: forecast at once.
        threads: of the CPU.
        against: a trained model without a budget; None: `model` with everything read.
        backbone: what the rows say of the language model.

    Raises:
        SettingsError: the model has no budget or one per window, or `against` has one or is no language model.
    """
    if getattr(model, "budget", None) is None:
        raise SettingsError("kept: the model has no token budget", "choose budget or one of its variants")
    assert model.budget is not None
    if against is not None and getattr(against, "budget", model.budget) is not None:
        raise SettingsError("kept: --against names no language model without a budget", "choose base or a stage on it")
    placed = data.to(device())
    layers = len(model.budget.told)
    if model.budget.settings.per_window:
        raise SettingsError("kept: the model reads as many tokens as a window needs", "choose another budget")
    assert model.prompter is not None
    picked, told = model.budget.size(len(model.prompter.fixed_ids)), model.budget.told.clone()
    with torch.autocast(device().type, dtype=torch.bfloat16, enabled=dtype == "bf16"):
        influence = measured_influence(model.to(device()), placed, borders, batch_windows)
    test = origins(borders, "test", data.window, data.horizon)
    chosen = test[np.unique(np.linspace(0, len(test) - 1, min(windows, len(test))).astype(int))]

    def read(size: Size) -> None:
        hold(model, size, influence)
        if size == picked:
            model.budget.told.copy_(told)  # type: ignore[union-attr]

    everything = Size(model.patches, layers, layers)
    sizes = {everything._replace(tokens=tokens) for tokens in model.budget.sizes}
    if model.budget.settings.prompt:
        # With each number of patches: the prompt as it was chosen, and at its least.
        sizes |= {size._replace(tokens=tokens) for tokens in model.budget.sizes for size in (picked, Size(0, 1, 1))}
        sizes |= {picked._replace(facts=facts, depth=layers) for facts in range(1, layers + 1)}
        sizes |= {picked._replace(depth=depth) for depth in range(picked.facts, layers + 1)}
    tried = []
    for size in sorted(sizes, reverse=True):
        read(size)
        tried.append(_Tried(size, float(model.budget.told[:, : influence.shape[1]].sum(dim=1).float().mean())))
    exact = _Tried(everything, float(influence.shape[1])) if against is not None else tried[0]
    for start in range(0, len(chosen), batch_windows):
        batch = placed.batch(chosen[start : start + batch_windows])
        for one in (*(() if exact is tried[0] else (exact,)), *tried):
            if against is not None and one is exact:
                use = against
            else:
                use = model
                read(one.size)
            if not start:
                forecasts(use, batch, dtype, threads)  # makes what stays
            found: list[torch.Tensor] = []
            one.seconds.append(clocked(lambda m=use, b=batch, f=found: f.append(forecasts(m, b, dtype, threads))))  # type: ignore[misc]
            total, count = masked_sum("mse", found[0], batch.y, batch.mask)
            one.total, one.count = one.total + total, one.count + count
    read(picked)
    said = {"window": data.window, "windows": len(chosen), "threads": threads}
    series = min(batch_windows, len(chosen)) * data.values.shape[1]
    if against is not None:
        more = {"mse": exact.total / exact.count, "seconds": statistics.median(exact.seconds)}
        yield Row(
            "kept", "exact", backbone=backbone, series=series, dtype=dtype, seconds=more.pop("seconds"),
            more={**more, **exact.size._asdict(), **said},
        )  # fmt: skip
    other = "exact" if against is not None else "everything read"
    for one in tried:
        ratios = [theirs / mine for theirs, mine in zip(exact.seconds, one.seconds, strict=True)]
        more = {"mse": one.total / one.count, "other_mse": exact.total / exact.count}
        more |= {**one.size._asdict(), "prompt": one.prompt}
        yield Row(
            "kept", "budget", other, backbone, series, dtype, dtype,
            statistics.median(ratios), min(ratios), max(ratios),
            statistics.median(one.seconds), statistics.median(exact.seconds),
            more={**more, "chosen": one.size == picked, **said},
        )  # fmt: skip
