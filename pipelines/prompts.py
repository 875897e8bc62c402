"""`wavecore prompt`: what a language model is told about a window. Reads the series; no model is loaded."""

from __future__ import annotations

from typing import Any

from assets.project import Project
from pipelines.plan import ground_of
from wavecore import stages
from wavecore.errors import SettingsError


def prompts_of(project: Project, benchmark: str, stage: str, window: int, channel: str | None) -> list[dict[str, Any]]:
    """The prompts of one window, a row per channel: channel, text, tokens, left_out.

    Args:
        window: as in the table `windows`: the row of its first step.
        channel: one of them; None for all.

    Raises:
        SettingsError: the stage has no prompt, or there is no such window or channel.
        StorageError: the benchmark's series and splits are not made yet.
    """
    from wavecore.model.build import language_side, model_settings, prompter
    from wavecore.series.normalize import single_series

    chosen = stages.get(stage)
    ground = ground_of(project, benchmark)
    side = language_side(model_settings(chosen, ground.settings, benchmark))
    made = prompter(ground.geometry, side) if side is not None else None
    if made is None:
        raise SettingsError(
            f"the stage {stage!r} has no prompt", "choose a stage with a language model, such as prompt"
        )
    last = ground.arrays.rows - ground.benchmark.window
    if not 0 <= window <= last:
        raise SettingsError(f"--window {window}: {benchmark} has windows 0 to {last}", "choose one of them")
    names = list(ground.arrays.channels)
    if channel is not None and channel not in names:
        raise SettingsError(f"--channel {channel}: {benchmark} has no such channel", f"channels: {', '.join(names)}")
    # As the model sees it: train-standardized in float32, then normalized by itself.
    series = single_series(ground.windows.values[None, window : window + ground.benchmark.window])[0].numpy()
    rows = []
    for name, prompt in zip(names, made.prompts(series), strict=True):
        if channel in (None, name):
            rows.append(
                {"channel": name, "text": prompt.text, "tokens": len(prompt.ids), "left_out": list(prompt.left_out)}
            )
    return rows
