"""`stages`: what each stage of the Time-LLM family costs beside `base`, at one window length or several.

With `shares` a stage that keeps fewer tokens (`sparse`, `only_sparse`) is measured at each of them: the time and the
memory of the surface over kept tokens and T.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from wavecore import stages as ladder
from wavecore.bench.child import ask
from wavecore.bench.memory import given
from wavecore.bench.models import Side, Trainer, backbone_of, batch, fast, forecasts, geometry, make, prompt_tokens
from wavecore.bench.rows import Row, alternate
from wavecore.bench.scale import flops
from wavecore.errors import SettingsError, WavecoreError
from wavecore.learn.checkpoint import trainable
from wavecore.model.time_llm import TimeLLM
from wavecore.series.windows import Batch

BELOW = "base"


def stages(
    chosen: Sequence[str],
    backbone: str = "minilm",
    windows: Sequence[int] = (512,),
    shares: Sequence[float] = (),
    series: int = 28,
    repeats: int = 5,
    threads: int = 2,
    memory: bool = True,
    model: dict[str, Any] | None = None,
) -> Iterator[Row]:
    """Two rows per window, stage and share: `infer` and `train`, against `base`.

    Args:
        chosen: stages of the Time-LLM family.
        backbone: minilm, gpt2 or qwen2.
        windows: T, rising; where a stage cannot read so long a window, its row says why.
        shares: of the tokens, for the stages that keep fewer; (): as the settings' default has it.
        series: windows × channels at once.
        repeats: pairs that are timed.
        threads: of the CPU.
        memory: measure the peak of each in a child process too.
        model: settings that all sides share.

    Raises:
        SettingsError: a stage of another family, or one with a token budget.
    """
    for name in chosen:
        if ladder.get(name).family != ladder.get(BELOW).family:
            raise SettingsError(f"stages: {name} is no stage of the Time-LLM family", "leave it out")
        if ladder.get(name).switches["budget"]["enabled"]:
            raise SettingsError(
                f"stages: {name} reads another number of tokens in every step",
                "leave it out; `wavecore bench train`, `infer` and `kept` measure budgets",
            )
    with backbone_of(backbone) as folder:
        for window in windows:
            data = batch(series, window)
            base = Side(BELOW, fast(), model)
            other = _built(base, folder, window)
            for name in chosen:
                sparse = ladder.get(name).switches["sparse"]["enabled"]
                for share in shares if sparse and shares else (None,):
                    own = {**(model or {}), **({"sparse": {"share": share}} if share is not None else {})}
                    side = replace(base, stage=name, model=own or None)
                    mine = _built(side, folder, window)
                    told: dict[str, Any] = {"window": window, "threads": threads}
                    told |= {"share": share} if share is not None else {}
                    refused = [made for made in (mine, other) if isinstance(made, str)]
                    if refused or isinstance(mine, str) or isinstance(other, str):
                        more = {**told, "stopped": refused[0]}
                        yield Row("stages", name, BELOW, backbone, series, side.dtype, more=more)
                        continue
                    told |= _size(mine, data)
                    for work in ("infer", "train"):
                        times, more = _pair(work, mine, other, data, repeats, threads), {**told, "work": work}
                        if work == "infer":
                            more["flops"] = flops(mine, data, side.dtype, threads)
                        if memory:
                            more |= ask(work, **given(folder, side, series, window, threads))
                        yield Row("stages", name, BELOW, backbone, series, side.dtype, side.dtype, **times, more=more)


def _pair(work: str, mine: TimeLLM, other: TimeLLM, data: Batch, repeats: int, threads: int) -> dict[str, float]:
    """Both sides in turn."""
    dtype = fast()
    if work == "train":
        return alternate(Trainer(mine, data, dtype, threads), Trainer(other, data, dtype, threads), repeats)
    return alternate(
        lambda: forecasts(mine, data, dtype, threads), lambda: forecasts(other, data, dtype, threads), repeats
    )


def _built(side: Side, folder: str, window: int) -> TimeLLM | str:
    """The model, or why it cannot be."""
    try:
        return make(side, folder, geometry(window))
    except WavecoreError as error:
        return error.problem


def _size(model: TimeLLM, data: Batch) -> dict[str, Any]:
    """Tokens that the language model reads of a window, those of its prompt, and weights that learn."""
    return {
        "tokens": float(model.needed(data.x).float().mean()) if model.wavelets is not None else model.seen_count,
        **(prompt_tokens(model, data) if model.prompter is not None else {}),
        "weights": sum(p.numel() for p in trainable(model).values()),
    }
