"""Every rule of every suite holds on a good table and fails on one that breaks it, naming the rows and columns."""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from assets.prompt_ids import told_rows
from assets.prompts import normalized_statistics
from data_contracts import contracts
from wavecore.config import FeatureSettings
from wavecore.errors import SettingsError
from wavecore.model.backbone import MINILM, find
from wavecore.prompt.settings import PromptSettings
from wavecore.prompt.text import Subject
from wavecore.prompt.tokens import Prompter, tokenizer_of
from wavecore.series import features
from wavecore.series.arrays import from_values
from wavecore.series.normalize import Scaler
from wavecore.series.splits import SPLITS, Borders, origins, split_of_origin
from wavecore.series.windows import WindowData

ROWS, WINDOW, HORIZON = 140, 32, 4
CHANNELS = ("load <A>", "b|c")
SETTINGS = FeatureSettings(wavelet="db2", levels=2, lags=3)
BORDERS = Borders((0, 90), (90, 105), (105, 120), (120, 138))
STAMPS = np.datetime64("2024-01-01", "us") + np.arange(ROWS) * np.timedelta64(1, "h")
SUITES = ("series", "windows", "splits", "wavelets", "prompt_statistics", "prompts", "evaluation")
FIXED, TOKENS = 23, 64  # of a prompt: what all have in common, and the most
SHAPE: dict[str, Any] = {"channels": CHANNELS, "window": WINDOW, "steps": ROWS}
CONTEXT: dict[str, dict[str, Any]] = {
    "series": {"channels": CHANNELS, "step": "1h", "as_of": "2024-01-31 00:00:00"},
    "windows": SHAPE | {"lags": SETTINGS.lags, "borders": BORDERS},
    "splits": {"window": WINDOW, "horizon": HORIZON, "steps": ROWS, "borders": BORDERS},
    "wavelets": SHAPE | {"levels": SETTINGS.levels},
    "prompt_statistics": SHAPE | {"lags": SETTINGS.lags},
    "prompts": SHAPE | {"stored": True, "shortest": FIXED, "longest": TOKENS, "last_id": 30521},
    "evaluation": {"window": WINDOW, "horizon": HORIZON, "borders": BORDERS},
}


def _values() -> np.ndarray:
    time = np.arange(ROWS)[:, None]
    noise = np.random.default_rng(3).normal(size=(ROWS, len(CHANNELS)))
    return np.sin(2 * np.pi * time / np.array([8.0, 12.0])) + 0.2 * noise + 5


def _feature_table(kind: Callable[..., Any]) -> pl.DataFrame:
    arrays = from_values(STAMPS, CHANNELS, _values())
    chunks = list(kind(arrays, Scaler.fit(arrays, BORDERS.train), WINDOW, SETTINGS))
    columns = {name: np.concatenate([c[name] for c in chunks]) for name in chunks[0]}
    named = pl.Series("channel", [CHANNELS[i] for i in columns.pop("channel")])
    lists = {k: pl.Series(k, v.tolist()) if v.ndim == 2 else pl.Series(k, v) for k, v in columns.items()}
    return pl.DataFrame([*lists.values(), named])


def _series() -> pl.DataFrame:
    return pl.DataFrame(
        {"timestamp": np.repeat(STAMPS, len(CHANNELS)), "channel": CHANNELS * ROWS, "value": _values().ravel()}
    )


def _windows() -> pl.DataFrame:
    table = _feature_table(features.window_statistics).with_columns(window="start", origin=pl.col("start") + WINDOW)
    split = split_of_origin(BORDERS, table["origin"].to_numpy())
    return table.with_columns(pl.Series("split", split.tolist()))


def _splits() -> pl.DataFrame:
    parts = []
    for name in SPLITS:
        origin = pl.Series("origin", origins(BORDERS, name, WINDOW, HORIZON))
        parts.append(
            pl.DataFrame({"origin": origin}).select(
                split=pl.lit(name),
                window=pl.col("origin") - WINDOW,
                origin="origin",
                input_start=pl.col("origin") - WINDOW,
                input_end="origin",
                target_start="origin",
                target_end=pl.col("origin") + HORIZON,
            )
        )
    return pl.concat(parts)


def _prompts() -> pl.DataFrame:
    tables = [_feature_table(source) for source in (features.window_statistics, features.wavelet_features)]
    found = normalized_statistics(*(table.with_columns(window="start") for table in tables))
    return pl.DataFrame({name: v.tolist() if getattr(v, "ndim", 1) > 1 else v for name, v in found.items()})


def _told() -> pl.DataFrame:
    subject = Subject("Hourly load.", "1h", WINDOW, HORIZON, SETTINGS)
    made = Prompter(tokenizer_of(find(MINILM).folder), subject, PromptSettings(tokens=TOKENS))
    assert len(made.fixed_ids) == FIXED
    arrays = from_values(STAMPS, CHANNELS, _values())
    scaler = Scaler.fit(arrays, BORDERS.train)
    chunks = told_rows(made, WindowData.from_arrays(arrays, scaler, WINDOW, HORIZON).values, CHANNELS, "contract")
    return pl.concat([pl.DataFrame(chunk) for chunk in chunks])


def _evaluation() -> pl.DataFrame:
    origin = origins(BORDERS, "test", WINDOW, HORIZON)
    return pl.DataFrame({"origin": origin, "mse": np.full(len(origin), 0.3), "mae": np.full(len(origin), 0.4)})


@pytest.fixture(scope="module")
def good() -> dict[str, pl.DataFrame]:
    """One good table per suite, made by the code that makes them for real."""
    return {
        "series": _series(),
        "windows": _windows(),
        "splits": _splits(),
        "wavelets": _feature_table(features.wavelet_features),
        "prompt_statistics": _prompts(),
        "prompts": _told(),
        "evaluation": _evaluation(),
    }


@dataclass(frozen=True)
class Fault:
    """One mutation of a good table, and what the rule must say about it."""

    change: Callable[[pl.DataFrame], pl.DataFrame]
    context: dict[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    row: dict[str, Any] | None = None  # what the first named row must hold
    count: int = 1


def put(column: str, value: Any, row: int = 5, dtype: Any = None) -> Callable[[pl.DataFrame], pl.DataFrame]:
    """Write one value into one row."""

    def change(table: pl.DataFrame) -> pl.DataFrame:
        values = table[column].to_list()
        values[row] = value
        return table.with_columns(pl.Series(column, values, dtype=dtype or table.schema[column]))

    return change


def drop(column: str) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda table: table.drop(column)


def shorter(table: pl.DataFrame) -> pl.DataFrame:
    return table.head(-1)


def twice(table: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([table, table.slice(5, 1)])


def renamed_channel(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col("channel").replace(CHANNELS[1], "other"))


def one_channel(to: Any) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda t: t.with_columns(
        value=pl.when(pl.col("channel") == CHANNELS[1]).then(pl.lit(to, pl.Float64)).otherwise("value")
    )


# Row 5 of a table that goes by window, then by channel: start 2 of the second channel.
KEY = {"start": 2, "channel": CHANNELS[1]}
STAMP = {"timestamp": "2024-01-01 02:00:00", "channel": CHANNELS[1]}


def keyed(column: str, value: Any, columns: tuple[str, ...] | None = None, **named: Any) -> Fault:
    """A value in row 5 of a feature table; the row named must be that window and channel."""
    return Fault(put(column, value), columns=columns or (column,), row=KEY | named)


def _feature_faults() -> dict[str, Fault]:
    return {
        "columns": Fault(drop("channel"), columns=("channel",), row={"column": "channel", "fault": "missing"}),
        "row_count": Fault(shorter),
        "channels_declared": Fault(renamed_channel, columns=("channel",), row={"channel": CHANNELS[1]}, count=2),
        "rows_unique": Fault(twice, columns=("start", "channel"), row=KEY, count=2),
        "start_present": Fault(put("start", None), columns=("start",), row={"channel": CHANNELS[1]}),
        "channel_present": Fault(put("channel", None), columns=("channel",), row={"start": 2}),
        "start_not_negative": Fault(put("start", -1), columns=("start",), row={"start": -1}),
    }


def _statistic_faults(*names: str) -> dict[str, Fault]:
    faults = {}
    for name in names:
        faults[f"{name}_present"] = keyed(name, None)
        infinite: dict[str, Any] = {name: "inf"}
        faults[f"{name}_finite"] = keyed(name, math.inf, (name,), **infinite)
    return faults | {
        "median_not_below_min": keyed("median", -1e6, ("median", "min"), median=-1e6),
        "max_not_below_median": keyed("max", -1e6, ("max", "median"), max=-1e6),
        "lags_present": keyed("lags", None, ("lag_smallest",)),
        "lags_not_negative": keyed("lags", [3, -2, 1], ("lag_smallest",), lag_smallest=-2),
        "lags_within_half": keyed("lags", [3, WINDOW // 2 + 1, 0], ("lag_largest",), lag_largest=WINDOW // 2 + 1),
        "lags_as_many": keyed("lags", [3, 4], ("lag_count",), lag_count=2),
    }


def later(table: pl.DataFrame) -> pl.DataFrame:
    """An hour too late in one row: irregular there and in the next row of the channel."""
    return put("timestamp", datetime.datetime(2024, 1, 1, 2, 30))(table)


FAULTS: dict[str, dict[str, Fault]] = {
    "series": {
        "columns": Fault(
            lambda t: t.rename({"value": "valeu"}), columns=("value", "valeu"), row={"column": "value"}, count=2
        ),
        "row_count": Fault(lambda t: t.filter(pl.int_range(pl.len()) != 50)),
        "value_is_number": Fault(lambda t: t.with_columns(pl.col("value").cast(pl.String)), columns=("value",)),
        "timestamp_present": Fault(put("timestamp", None), columns=("timestamp",), row={"channel": CHANNELS[1]}),
        "channel_present": Fault(put("channel", None), columns=("channel",), row={"timestamp": STAMP["timestamp"]}),
        "channels_declared": Fault(renamed_channel, columns=("channel",), row={"channel": CHANNELS[1]}, count=2),
        "timestamps_unique": Fault(twice, columns=("timestamp", "channel"), row=STAMP, count=2),
        "timestamps_regular": Fault(
            later,
            columns=("steps_since_previous",),
            row={"timestamp": "2024-01-01 02:30:00", "channel": CHANNELS[1], "steps_since_previous": 1.5},
            count=2,
        ),
        "not_after_as_of": Fault(
            lambda t: t,
            context={"as_of": "2024-01-06 18:00:00"},
            columns=("seconds_after_as_of",),
            row={"timestamp": "2024-01-06 19:00:00", "channel": CHANNELS[0], "seconds_after_as_of": 3600},
            count=2,
        ),
        "value_finite": Fault(put("value", -math.inf), columns=("value",), row=STAMP | {"value": "-inf"}),
        "value_present": Fault(put("value", math.nan), columns=("value",), row=STAMP),
        "channels_not_empty": Fault(
            one_channel(None), {"missing": "mask"}, ("channel_observed_share",), {"channel": CHANNELS[1]}
        ),
        "channels_mostly_observed": Fault(
            lambda t: t.with_columns(value=pl.when(pl.int_range(pl.len()) % 2 == 0).then("value")),
            context={"missing": "mask"},
            columns=("channel_observed_share",),
            row={"channel": CHANNELS[1], "channel_observed_share": 0.0},
        ),
        "channels_vary": Fault(one_channel(7.0), columns=("channel_spread",), row={"channel": CHANNELS[1]}),
        "channels_vary_where_kept": Fault(
            one_channel(7.0), {"constant_channels": "keep"}, ("channel_spread",), {"channel": CHANNELS[1]}
        ),
    },
    "windows": {
        **_feature_faults(),
        **_statistic_faults("mean", "std", "min", "max", "median", "trend"),
        "inputs_inside_series": Fault(
            put("start", ROWS - WINDOW + 1), columns=("last_input",), row={"channel": CHANNELS[1], "last_input": ROWS}
        ),
        "origin_present": keyed("origin", None),
        "origin_after_window": keyed("origin", 2 + WINDOW + 1, ("window_length",), window_length=WINDOW + 1),
        "no_leak": keyed("origin", 2 + WINDOW - 1, ("origin", "last_input"), last_input=2 + WINDOW - 1),
        "split_known": keyed("split", "tset"),
        "split_present": keyed("split", None),
        "split_as_borders": keyed("split", "test", ("split", "split_by_borders"), split_by_borders="train"),
        "std_not_negative": keyed("std", -0.1),
        "observed_share_in_range": keyed("observed_share", 1.5),
        "observed_share_present": keyed("observed_share", None),
        "windows_mostly_observed": keyed("observed_share", 0.25),
    },
    "splits": {
        "columns": Fault(drop("window"), columns=("window",), row={"column": "window", "fault": "missing"}),
        "row_count": Fault(shorter),
        "splits_not_empty": Fault(
            lambda t: t.filter(pl.col("split") != "select"), columns=("split",), row={"split": "select"}
        ),
        "split_counts": Fault(
            lambda t: t.filter(pl.col("origin") != 125),
            columns=("windows_too_many",),
            row={"split": "test", "windows_too_many": -1},
        ),
        "rows_unique": Fault(twice, columns=("split", "window"), row={"split": "train", "window": 5}, count=2),
        **{
            f"{c}_present": Fault(put(c, None), columns=(c,)) for c in ("window", "origin", "input_start", "target_end")
        },
        "input_start_not_negative": Fault(put("input_start", -1), columns=("input_start",), row={"window": 5}),
        "input_length": Fault(put("input_start", 4), columns=("input_length",), row={"split": "train", "window": 5}),
        "target_length": Fault(put("target_end", 99), columns=("target_length",), row={"split": "train", "window": 5}),
        "no_leak": Fault(
            put("target_start", 5 + WINDOW - 1),
            columns=("target_start", "input_end"),
            row={"split": "train", "window": 5},
        ),
        "origin_is_first_target": Fault(put("origin", 7), columns=("origin", "target_start"), row={"window": 5}),
        "origin_ends_inputs": Fault(put("input_end", 7), columns=("origin", "input_end"), row={"window": 5}),
        "targets_inside_series": Fault(put("target_end", ROWS + 1), columns=("target_end",), row={"window": 5}),
        # One train target that runs three rows into `select` also makes the select windows there share rows.
        "targets_disjoint": Fault(
            put("target_end", 93, row=54),
            columns=("target_steps_shared",),
            row={"split": "train", "window": 54, "target_steps_shared": 3},
            count=4,
        ),
    },
    "wavelets": {
        **_feature_faults(),
        "energy_sum_present": keyed("energy_share", None, ("energy_sum",)),
        "energy_sums_to_one": keyed("energy_share", [0.5, 0.3, 0.1999], ("energy_sum",)),
        "energy_not_negative": keyed("energy_share", [1.5, -0.5, 0.0], ("energy_smallest",), energy_smallest=-0.5),
        "reconstruction_exact": keyed("reconstruction_error", 1e-4),
        "reconstruction_error_present": keyed("reconstruction_error", None),
        "entropy_in_range": keyed("entropy", 1.01),
        "entropy_present": keyed("entropy", None),
        "dominant_band_known": keyed("dominant_band", SETTINGS.levels + 1),
        "dominant_band_present": keyed("dominant_band", None),
        "dominant_period_in_range": keyed("dominant_period", 1.5 * WINDOW + 1),
        "dominant_period_present": keyed("dominant_period", None),
        "burst_count_not_negative": keyed("burst_count", -1),
        "burst_count_present": keyed("burst_count", None),
    },
    "prompt_statistics": {**_feature_faults(), **_statistic_faults("min", "max", "median", "trend")},
    "prompts": {
        **_feature_faults(),
        "facts_present": keyed("facts", None),
        "tokens_present": keyed("tokens", None),
        "tokens_within_budget": keyed("tokens", TOKENS + 1),
        "ids_counted": keyed("ids", [1, 2], ("ids_missing",)),
        "ids_not_negative": keyed("ids", [-1, 2], ("id_smallest",), id_smallest=-1),
        "ids_known": keyed("ids", [30522, 2], ("id_largest",), id_largest=30522),
    },
    "evaluation": {
        "columns": Fault(drop("mae"), columns=("mae",), row={"column": "mae", "fault": "missing"}),
        "row_count": Fault(shorter),
        "origins_unique": Fault(put("origin", 124), columns=("origin",), row={"origin": 124}, count=2),
        "origins_of_test": Fault(put("origin", 119), columns=("origin",), row={"origin": 119}),
        "origin_present": Fault(put("origin", None), columns=("origin",)),
        "mse_present": Fault(put("mse", math.nan), columns=("mse",), row={"origin": 125}),
        "mae_present": Fault(put("mae", None), columns=("mae",), row={"origin": 125}),
        "mse_finite_not_negative": Fault(put("mse", math.inf), columns=("mse",), row={"origin": 125, "mse": "inf"}),
        "losses_together": Fault(
            put("mae", None), {"missing": "mask"}, columns=("losses_missing",), row={"origin": 125}
        ),
        "windows_mostly_scored": Fault(
            lambda t: t.with_columns(pl.lit(None, pl.Float64).alias("mse"), pl.lit(None, pl.Float64).alias("mae")),
            {"missing": "mask"},
            columns=("mse",),
            row={"origin": 120},
            count=15,
        ),
        "mae_finite_not_negative": Fault(put("mae", -0.1), columns=("mae",), row={"origin": 125, "mae": -0.1}),
    },
}


@pytest.mark.parametrize("suite", SUITES)
def test_good_table_passes(suite: str, good: dict[str, pl.DataFrame]) -> None:
    result = contracts.validate(suite, good[suite], CONTEXT[suite])
    assert result.failed == ()
    assert result.passed
    assert not result.blocking_failed
    assert [c.name for c in result.checks] == [r.name for r in contracts.rules(suite) if r.name not in result.skipped]
    assert contracts.as_markdown(result) == f"**{suite}**: all {len(result.checks)} rules hold."


@pytest.mark.parametrize("suite", SUITES)
def test_every_rule_has_its_fault_and_its_words(suite: str) -> None:
    rules = contracts.rules(suite)
    assert {r.name for r in rules} == set(FAULTS[suite])
    assert all(r.description.endswith(".") and r.severity in ("critical", "warning") for r in rules)
    assert all(r.name.isidentifier() for r in rules)  # they become names of asset checks


@pytest.mark.parametrize(("suite", "name"), [(s, n) for s in SUITES for n in FAULTS[s]])
def test_rule_fails_where_it_should(suite: str, name: str, good: dict[str, pl.DataFrame]) -> None:
    fault = FAULTS[suite][name]
    context = CONTEXT[suite] | fault.context
    result = contracts.validate(suite, fault.change(good[suite]), context)
    outcome = next(c for c in result.checks if c.name == name)
    assert not outcome.passed
    assert outcome.error is None
    assert outcome.columns == fault.columns
    assert outcome.count == fault.count
    if fault.row is not None:
        assert {k: outcome.rows[0].get(k) for k in fault.row} == fault.row
    assert result.blocking_failed == any(c.severity == "critical" and not c.passed for c in result.checks)
    if outcome.severity == "critical":
        assert result.blocking_failed
    json.dumps([c.rows for c in result.checks], allow_nan=False)  # fit for metadata
    assert name in contracts.as_markdown(result)


def test_a_warning_does_not_block(good: dict[str, pl.DataFrame]) -> None:
    table = FAULTS["series"]["channels_vary_where_kept"].change(good["series"])
    result = contracts.validate("series", table, CONTEXT["series"] | {"constant_channels": "keep"})
    assert [c.name for c in result.failed] == ["channels_vary_where_kept"]
    assert not result.passed
    assert not result.blocking_failed
    assert "warnings only" in contracts.as_markdown(result)


def test_missing_values_are_no_fault_where_they_are_declared(good: dict[str, pl.DataFrame]) -> None:
    table = put("value", None)(good["series"])
    assert contracts.validate("series", table, CONTEXT["series"] | {"missing": "mask"}).passed
    assert contracts.validate("series", table, CONTEXT["series"]).blocking_failed


def test_prompts_that_are_not_stored_break_no_rule() -> None:
    result = contracts.validate("prompts", pl.DataFrame(), CONTEXT["prompts"] | {"stored": False})
    assert result.passed
    assert set(result.skipped) == set(FAULTS["prompts"])


def test_a_masked_test_window_has_no_losses(good: dict[str, pl.DataFrame]) -> None:
    table = put("mae", None)(put("mse", None)(good["evaluation"]))
    assert contracts.validate("evaluation", table, CONTEXT["evaluation"] | {"missing": "mask"}).passed
    assert contracts.validate("evaluation", table, CONTEXT["evaluation"]).blocking_failed


def test_a_gap_a_duplicate_and_disorder_are_told_apart(good: dict[str, pl.DataFrame]) -> None:
    gap = good["series"].filter(~pl.int_range(pl.len()).is_in(list(range(20, 26))))
    swapped = good["series"][[*range(10), 12, 13, 10, 11, *range(14, 2 * ROWS)]]
    for table, first in ((gap, 4.0), (twice(good["series"]), 2 - ROWS + 1.0), (swapped, 2.0)):
        result = contracts.validate("series", table, CONTEXT["series"])
        outcome = next(c for c in result.checks if c.name == "timestamps_regular")
        assert outcome.rows[0]["steps_since_previous"] == first
    assert next(
        c for c in contracts.validate("series", gap, CONTEXT["series"]).checks if c.name == "row_count"
    ).observed == (f"{2 * ROWS - 6}, expected {2 * ROWS}")


@pytest.mark.parametrize("first", ["2023-01-01", "2023-01-31", "2023-11-30"])
def test_calendar_months_are_regular(first: str) -> None:
    start = datetime.datetime.fromisoformat(first)
    stamps = pl.datetime_range(start, start.replace(year=2025), "1mo", eager=True)
    values = np.arange(len(stamps), dtype=float)
    table = pl.DataFrame({"timestamp": stamps, "channel": ["a"] * len(stamps), "value": values})
    context = {"channels": ["a"], "step": "1mo"}
    assert contracts.validate("series", table, context).failed == ()
    off = put("timestamp", stamps[5] + datetime.timedelta(hours=1))(table)
    assert "timestamps_regular" in [c.name for c in contracts.validate("series", off, context).failed]
    missing = contracts.validate("series", table.filter(pl.int_range(pl.len()) != 5), context)
    assert {c.name for c in missing.failed} == {"timestamps_regular", "row_count"}


@pytest.mark.parametrize("suite", SUITES)
def test_a_missing_column_is_surfaced_by_its_name(suite: str, good: dict[str, pl.DataFrame]) -> None:
    column = {"series": "timestamp", "windows": "start", "splits": "target_start"}.get(suite, good[suite].columns[1])
    result = contracts.validate(suite, good[suite].drop(column), CONTEXT[suite])
    assert result.blocking_failed
    assert next(c for c in result.checks if c.name == "columns").columns == (column,)
    broken = [c for c in result.checks if c.error]
    assert broken
    assert all(column in c.error and not c.passed for c in broken if c.error)
    assert column in contracts.as_markdown(result)


def test_text_in_a_number_column_is_surfaced(good: dict[str, pl.DataFrame]) -> None:
    table = good["series"].with_columns(pl.col("value").cast(pl.String))
    result = contracts.validate("series", table, CONTEXT["series"])
    assert next(c for c in result.checks if c.name == "value_is_number").observed == "str, expected float64"
    assert result.blocking_failed


def test_pandas_and_polars_frames_give_the_same(good: dict[str, pl.DataFrame]) -> None:
    table = put("value", math.inf)(good["series"])
    assert contracts.validate("series", table.to_pandas(), CONTEXT["series"]) == contracts.validate(
        "series", table, CONTEXT["series"]
    )


def test_fixed_size_lists_are_lists(good: dict[str, pl.DataFrame]) -> None:
    fixed = good["windows"].with_columns(pl.col("lags").cast(pl.Array(pl.Int32, SETTINGS.lags)))
    assert contracts.validate("windows", fixed, CONTEXT["windows"]).failed == ()
    fixed = good["wavelets"].with_columns(pl.col("energy_share").cast(pl.Array(pl.Float64, SETTINGS.levels + 1)))
    assert contracts.validate("wavelets", fixed, CONTEXT["wavelets"]).failed == ()


def test_every_row_is_looked_at_and_twenty_are_named() -> None:
    rows = 200_000
    stamps = np.datetime64("2000-01-01", "us") + np.arange(rows) * np.timedelta64(1, "m")
    value = np.full(rows, -np.inf)
    value[-1] = 1.0
    table = pl.DataFrame({"timestamp": stamps, "channel": ["a"] * rows, "value": value})
    outcome = next(
        c
        for c in contracts.validate("series", table, {"channels": ["a"], "step": "1m"}).checks
        if c.name == "value_finite"
    )
    assert outcome.count == rows - 1
    assert len(outcome.rows) == 20


def test_an_empty_table_fails_and_does_not_crash(good: dict[str, pl.DataFrame]) -> None:
    for suite in SUITES:
        result = contracts.validate(suite, good[suite].clear(), CONTEXT[suite])
        assert result.blocking_failed


def test_names_of_channels_cannot_break_the_table(good: dict[str, pl.DataFrame]) -> None:
    text = contracts.as_markdown(
        contracts.validate("series", put("value", math.inf)(good["series"]), CONTEXT["series"])
    )
    assert "b\\|c" in text
    assert "<A>" not in contracts.as_markdown(
        contracts.validate("series", put("value", math.inf, row=4)(good["series"]), CONTEXT["series"])
    )


def test_a_suite_of_ones_own_and_its_mistakes(tmp_path: Path, good: dict[str, pl.DataFrame]) -> None:
    def write(**change: Any) -> None:
        rule: dict[str, Any] = {
            "description": "Values are at most 9.",
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "value", "max_value": {"$PARAMETER": "top"}},
            "severity": "warning",
            "meta": {"name": "below_top"},
        }
        (tmp_path / "own.json").write_text(json.dumps({"name": "own", "expectations": [rule | change]}))

    write()
    assert contracts.validate("own", good["series"], {"top": 9}, tmp_path).passed
    assert not contracts.validate("own", good["series"], {"top": 5}, tmp_path).passed
    with pytest.raises(SettingsError, match=r"below_top\.max_value needs the parameter 'top'"):
        contracts.validate("own", good["series"], {}, tmp_path)
    write(type="expect_no_such_thing")
    with pytest.raises(SettingsError, match="own"):
        contracts.validate("own", good["series"], {"top": 9}, tmp_path)
    write(severity="grave")
    with pytest.raises(SettingsError, match="grave"):
        contracts.rules("own", tmp_path)
    write(meta={})
    with pytest.raises(SettingsError, match=r"meta\.name"):
        contracts.rules("own", tmp_path)
    (tmp_path / "own.json").write_text("{")
    with pytest.raises(SettingsError, match="not valid JSON"):
        contracts.rules("own", tmp_path)
    with pytest.raises(SettingsError, match="no such suite"):
        contracts.rules("none", tmp_path)
    with pytest.raises(SettingsError, match=r"needs 'step' in the context|parameter 'rows'"):
        contracts.validate("series", good["series"], {"channels": CHANNELS})
