"""Contracts on tables: Great Expectations suites kept as JSON, run on whole tables, failures named by row and column.

A suite (`suites/<name>.json`) is plain Great Expectations JSON. Three keys in `meta` are ours:

* `name` of an expectation: the check's short name in tables and in the UI.
* `when` of an expectation: `{key: value}`; it applies only where the context holds that value (`"*"`: any value).
* `rows` of the suite or an expectation: the columns that name a row to a reader (timestamp and channel, no position).

Values that depend on the dataset are written `{"$PARAMETER": "name"}` and filled from the context, or derived from it
(see `computed.py`, which also adds the helper columns that a rule over several rows needs). A suite passes
when no critical expectation fails: critical ones block what comes after, warnings are shown and let it pass.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_contracts import computed
from data_contracts.outcomes import (
    ROWS_NAMED,
    SEVERITIES,
    CheckOutcome,
    ContractResult,
    as_markdown,
    column_list,
    outcome,
)
from wavecore.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

__all__ = ["CheckOutcome", "ContractResult", "Rule", "as_markdown", "rules", "validate"]

SUITES = Path(__file__).parent / "suites"


@dataclass(frozen=True)
class Rule:
    """One expectation of a suite, as a reader needs it before anything was run."""

    name: str
    description: str
    severity: str
    when: Mapping[str, Any]


def rules(suite: str, folder: Path | None = None) -> tuple[Rule, ...]:
    """The rules of a suite, in order, without importing Great Expectations."""
    return tuple(
        Rule(e["meta"]["name"], e["description"], SEVERITIES[e["severity"]], e["meta"].get("when", {}))
        for e in _load(suite, folder)["expectations"]
    )


def validate(
    suite_name: str,
    frame: pl.DataFrame | pd.DataFrame,
    context: Mapping[str, Any] | None = None,
    folder: Path | None = None,
) -> ContractResult:
    """Check every row of a table against a suite.

    Args:
        suite_name: `series`, `windows`, `splits`, `wavelets`, `prompt_statistics`, `prompts`, `evaluation`, or a
            file of `folder`.
        frame: the table, whole.
        context: what the suite's parameters and helper columns need; `computed.py` lists it per suite.
        folder: where the suites lie, if not in `data_contracts/suites`.

    Raises:
        SettingsError: the suite is missing or broken, or the context lacks something that it needs.
    """
    suite = _load(suite_name, folder)
    table = _as_polars(frame)
    given = computed.DEFAULTS.get(suite_name, {}) | dict(context or {})
    applied = [e for e in suite["expectations"] if _applies(e, given)]
    parameters = _parameters(suite_name, applied, computed.parameters(suite_name, table, given))
    wanted = {c for e in applied for c in _columns(e["kwargs"])} - set(table.columns)
    helpers, broken = computed.columns(suite_name, table, given, wanted)

    # Helper columns must not count as columns of the table, so rules on the table as such see it without them.
    on_table = [e for e in applied if e["type"].startswith("expect_table_")]
    on_rows = [e for e in applied if e not in on_table and not broken.keys() & _columns(e["kwargs"])]
    outlines = _run(suite, on_table, _outline(table), parameters) | _run(
        suite, on_rows, _to_pandas(table.hstack(helpers), on_rows), parameters
    )
    full = table.hstack(helpers)
    checks = tuple(outcome(suite, e, outlines.get(e["meta"]["name"]), full, parameters, broken) for e in applied)
    failed = [c for c in checks if not c.passed]
    return ContractResult(
        suite_name,
        passed=not failed,
        blocking_failed=any(c.severity == "critical" for c in failed),
        checks=checks,
        skipped=tuple(e["meta"]["name"] for e in suite["expectations"] if e not in applied),
    )


def _load(name: str, folder: Path | None) -> dict[str, Any]:
    path = (folder or SUITES) / f"{name}.json"
    fix = "restore the file from git, or write it as a Great Expectations suite"
    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: there is no such suite", fix) from None
    except ValueError as error:
        raise SettingsError(f"{path}: not valid JSON ({error})", fix) from error
    seen: set[str] = set()
    for i, expectation in enumerate(suite.get("expectations") or [{}]):
        where = f"{path}: expectations[{i}]"
        for key in ("type", "kwargs", "severity", "description", "meta"):
            if key not in expectation:
                raise SettingsError(f"{where}: the key {key!r} is missing", f"add {key!r}")
        if expectation["severity"] not in SEVERITIES:
            raise SettingsError(f"{where}: severity {expectation['severity']!r}", "write critical or warning")
        label = expectation["meta"].get("name")
        if not label or label in seen:
            raise SettingsError(f"{where}: meta.name is missing or stands there twice: {label!r}", "give it its own")
        seen.add(label)
    return suite


def _applies(expectation: Mapping[str, Any], context: Mapping[str, Any]) -> bool:
    for key, value in expectation["meta"].get("when", {}).items():
        held = context.get(key)
        if held is None or (value != "*" and held != value):
            return False
    return True


def _columns(kwargs: Mapping[str, Any]) -> set[str]:
    return set(column_list(kwargs))


def _parameters(suite: str, expectations: Sequence[Mapping[str, Any]], known: Mapping[str, Any]) -> dict[str, Any]:
    used = {}
    for e in expectations:
        for key, value in e["kwargs"].items():
            if isinstance(value, Mapping) and "$PARAMETER" in value:
                name = value["$PARAMETER"]
                if known.get(name) is None:
                    raise SettingsError(
                        f"suite {suite!r}: {e['meta']['name']}.{key} needs the parameter {name!r}, which the context "
                        f"does not give (known: {', '.join(sorted(known)) or 'none'})",
                        "pass it in the context, or name a known one in the suite",
                    )
                used[name] = known[name]
    return used


def _as_polars(frame: pl.DataFrame | pd.DataFrame) -> pl.DataFrame:
    import polars as pl

    return frame if isinstance(frame, pl.DataFrame) else pl.from_pandas(frame)


def _outline(table: pl.DataFrame) -> pd.DataFrame:
    # Column names and the number of rows are all that a rule on the table as such may ask for.
    import pandas as pd

    return pd.DataFrame(False, index=range(table.height), columns=list(table.columns))


def _to_pandas(full: pl.DataFrame, expectations: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    used = {c for e in expectations for c in _columns(e["kwargs"])}
    return full.select([c for c in full.columns if c in used]).to_pandas()


def _run(
    suite: Mapping[str, Any],
    expectations: Sequence[Mapping[str, Any]],
    data: pd.DataFrame,
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    """Great Expectations' results by our check name. It gives them in an order of its own."""
    if not expectations:
        return {}
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
    try:
        built = gx.ExpectationSuite(**{**suite, "expectations": list(expectations)})
    except Exception as error:  # Great Expectations raises pydantic, marshmallow and own errors here
        raise SettingsError(f"suite {suite['name']!r}: {error}", "compare it with the suites in git") from error
    # An expectation that Great Expectations cannot read (an unknown type) is logged and left out: here it is an error.
    lost = {e["meta"]["name"] for e in expectations} - {(e.meta or {}).get("name") for e in built.expectations}
    if lost:
        named = ", ".join(f"{e['meta']['name']} ({e['type']})" for e in expectations if e["meta"]["name"] in lost)
        raise SettingsError(
            f"suite {suite['name']!r}: Great Expectations cannot read {named}", "correct its type and kwargs"
        )
    asset = context.data_sources.add_pandas("memory").add_dataframe_asset("table")
    batch = asset.add_batch_definition_whole_dataframe("whole").get_batch(batch_parameters={"dataframe": data})
    # SUMMARY without index columns gives the first positions at once. Asking it for named rows instead walks over
    # every failing row: 35 s for a million of them, against 0.4 s; `_named_rows` looks the names up.
    found = batch.validate(
        built,
        result_format={
            "result_format": "SUMMARY",
            "partial_unexpected_count": ROWS_NAMED,
            "return_unexpected_index_query": False,
        },
        expectation_parameters=dict(parameters),
    )
    return {r.expectation_config.meta["name"]: r for r in found.results if r.expectation_config}
