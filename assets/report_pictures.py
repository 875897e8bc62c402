"""The pictures of one benchmark in the report: differences, errors by scale and step, training, forecasts."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from assets import figures, figures_wavelets
from assets.report_data import BenchmarkReport
from assets.report_html import figure, text


def _far(b: BenchmarkReport) -> tuple[str, ...]:
    """Of many stages those whose error is so large that beside them no room is left to see how the others differ."""
    errors = {s.stage: found for s in b.stages if (found := s.mean("mse")) is not None}
    if len(errors) <= figures.FEW:
        return ()
    middle = statistics.median(errors.values())
    return tuple(name for name, error in errors.items() if error > 1.25 * middle)


def _telling(b: BenchmarkReport) -> list[str]:
    """The stages that a crowded picture shows: all where they are few, else the baselines, `base` and the best ones."""
    names = [s.stage for s in b.stages]
    if len(names) <= figures.FEW:
        return names
    known = [name for name in ("seasonal_naive", "last_value", "dlinear", "base") if name in names]
    scored = sorted((s for s in b.stages if s.mean("mse") is not None), key=lambda s: s.mean("mse") or 0.0)
    return [name for name in names if name in {*known, *(s.stage for s in scored[:3])}]


def pictures(b: BenchmarkReport, anchor: str) -> str:
    """All of them as HTML; `anchor` makes their ids unique on the page."""
    stages = _telling(b)
    some = "" if len(stages) == len(b.stages) else " Of many stages the baselines, base and the three best are drawn."
    parts: list[str] = []

    def add(name: str, title: str, note: str, wanted: bool, draw: Callable[[], figures.Drawing], css: str = "") -> None:
        picture = draw().svg(f"{anchor}-{name}") if wanted else '<p class="note">Nothing to show yet.</p>'
        parts.append(figure(picture, title, note, css))

    by_step = {s.stage: s.by_step for s in b.stages if len(s.by_step) and s.stage in stages}
    far = _far(b)
    left_out = f" Without {' and '.join(far)}, whose error is far larger." if far else ""
    pairs = [c for c in b.comparisons if c.stage not in far and c.other not in far]
    compared = len(pairs)
    if compared > 2 * figures.FEW:
        below = {(s.stage, s.comparison.other) for s in b.stages if s.comparison is not None}
        # A variant (base.averaged) is told by what it is a variant of.
        near = [
            c for c in pairs if (c.stage, c.other) in below or (c.other in ("base", "dlinear") and "." not in c.stage)
        ]
        pairs = near or pairs
    chosen = (
        ""
        if len(pairs) == compared
        else " To the stage below and, but for variants, base and dlinear; <code>wavecore compare</code> has all pairs."
    )
    by_scale = {s.stage: s.by_scale for s in b.stages if len(s.by_scale) and s.stage not in far}
    add(
        "intervals", "Differences and their intervals",
        f"Difference in MSE with its {100 * (1 - b.alpha):g}% interval; green is better, orange worse, grey not shown."
        + left_out + chosen,
        bool(pairs), lambda: figures.intervals(pairs), "tall" if len(pairs) > 2 * figures.FEW else "",
    )  # fmt: skip
    share = None if b.energy_share is None else figures.as_array(b.energy_share)
    add(
        "scale", "Error per wavelet scale",
        "MSE between the wavelet coefficients of forecast and truth, slow scales first."
        + (" Above each the share of the data's energy that it holds." if share is not None else "")
        + left_out,
        bool(by_scale) and bool(b.bands),
        lambda: figures.error_by_scale({k: figures.as_array(v) for k, v in by_scale.items()}, b.bands, share),
    )  # fmt: skip
    add(
        "step", "Error per horizon step", "How the error grows with the distance into the future." + some,
        bool(by_step), lambda: figures.error_by_step({k: figures.as_array(v) for k, v in by_step.items()}),
    )  # fmt: skip
    learned = [s for s in b.stages if any(s.curves.values())]
    curves: list[str] = []
    for i, s in enumerate(learned):
        curve = figures.training_curves(s.curves, metric="MSE").svg(f"{anchor}-curve-{i}")
        curves.append(
            figure(curve, f"Training of {s.stage}", "Validation is on <i>select</i>; the dot is what was kept.")
        )
        if all("low" in row for rows in s.curves.values() for row in rows):
            drawn = figures_wavelets.curriculum(s.curves).svg(f"{anchor}-curriculum-{i}")
            note = "Moved on whenever a look at <i>select</i> found an improvement."
            curves.append(figure(drawn, f"Weights in the loss of {s.stage}", note))
    if not learned:
        curves.append(figure('<p class="note">No stage here learns anything.</p>', "Training"))
    training = f'<div class="grid">{"".join(curves)}</div>'
    if len(curves) > figures.FEW:
        training = f"<details><summary>Training curves of {len(learned)} stages</summary>{training}</details>"
    panels = "".join(
        f"<div>{figures.forecasts([w], stages, b.unit).svg(f'{anchor}-forecast-{i}')}</div>"
        for i, w in enumerate(b.forecasts)
    )
    shown = f'<div class="panels">{panels}</div>' if panels else '<p class="note">No forecast was kept.</p>'
    note = f"Test windows, in the {text(b.unit)}. “truth” is what happened; the shaded part is the future to the model."
    note += some
    ahead = f'<div class="grid">{figure(shown, "Test windows", note, "wide")}</div>'
    return f'<div class="grid">{"".join(parts)}</div>{training}<h3>Forecasts against the truth</h3>{ahead}'
