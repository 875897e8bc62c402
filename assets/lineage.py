"""Which column is made from which, and which asset reads which: declared once, for Dagster and the report."""

from __future__ import annotations

from typing import Any

import dagster as dg

Sources = list[tuple[str, str]]

_VALUE: Sources = [("series", "value")]
_WAVELET = ("energy_share", "entropy", "dominant_band", "dominant_period", "burst_count", "burst_start")
_NORMALIZED: Sources = [("series", "value"), ("windows", "mean"), ("windows", "std")]

COLUMNS: dict[str, dict[str, Sources]] = {
    "series": {
        "timestamp": [("raw_series", "time")],
        "channel": [("raw_series", "header")],
        "value": [("raw_series", "value")],
    },
    "windows": {
        "split": [("series", "timestamp")],
        "channel": [("series", "channel")],
        "as_of": [("series", "timestamp")],
        **dict.fromkeys(("mean", "std", "min", "max", "median", "trend", "lags", "observed_share"), _VALUE),
    },
    "wavelet_coefficients": dict.fromkeys(("A_J", "D_j", *_WAVELET), _NORMALIZED),
    "prompt_statistics": {
        **{c: [("windows", c), ("windows", "mean"), ("windows", "std")] for c in ("min", "max", "median")},
        "trend": [("windows", "trend"), ("windows", "std")],
        "lags": [("windows", "lags")],
        **{
            c: [("wavelet_coefficients", c)]
            for c in ("energy_share", "entropy", "dominant_band", "dominant_period", "burst_count", "burst_start")
        },
    },
    "prompts": {column: [("series", "value"), ("splits", "origin")] for column in ("facts", "ids")},
    "splits": {
        "split": [("series", "timestamp")],
        "window": [("windows", "window")],
        "origin": [("windows", "origin")],
        "target_end": [("windows", "origin")],
    },
    "model": {"weights": [("series", "value"), ("splits", "origin"), ("prompts", "ids")]},
    "evaluation": {
        "forecast": [("model", "weights"), ("series", "value"), ("splits", "origin"), ("prompts", "ids")],
        "mse": [("evaluation", "forecast"), ("series", "value")],
        "mae": [("evaluation", "forecast"), ("series", "value")],
    },
    "online_evaluation": {
        metric: [("model", "weights"), ("series", "value"), ("splits", "origin")] for metric in ("mse", "mae", "r2")
    },
}

EDGES: tuple[tuple[str, str], ...] = (
    ("raw_series", "series"),
    ("series", "windows"),
    ("series", "wavelet_coefficients"),
    ("series", "splits"),
    ("series", "model"),
    ("series", "evaluation"),
    ("splits", "evaluation"),
    ("windows", "wavelet_coefficients"),
    ("windows", "prompt_statistics"),
    ("wavelet_coefficients", "prompt_statistics"),
    ("windows", "splits"),
    ("series", "prompts"),
    ("splits", "prompts"),
    ("splits", "model"),
    ("prompts", "model"),
    ("prompts", "evaluation"),
    ("model", "evaluation"),
    ("series", "online_evaluation"),
    ("splits", "online_evaluation"),
    ("model", "online_evaluation"),
    ("evaluation", "comparison"),
    ("comparison", "leaderboard"),
    ("leaderboard", "report"),
    ("wavelet_coefficients", "report"),
)


def column_lineage(asset: str) -> dict[str, Any]:
    """The asset's columns as Dagster's metadata."""
    deps = {
        column: [dg.TableColumnDep(asset_key=dg.AssetKey(source), column_name=name) for source, name in sources]
        for column, sources in COLUMNS[asset].items()
    }
    return {"dagster/column_lineage": dg.TableColumnLineage(deps)}
