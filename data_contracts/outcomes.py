"""What a suite found, in words: one outcome per rule, with the rows and columns at fault by name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

ROWS_NAMED = 20
# `info` of Great Expectations would be shown nowhere: it counts as a warning.
SEVERITIES = {"critical": "critical", "warning": "warning", "info": "warning"}


@dataclass(frozen=True)
class CheckOutcome:
    """What one expectation found.

    Attributes:
        name, description: of the rule.
        severity: `critical` (blocks) or `warning`.
        passed: whether the rule holds. A rule that could not be checked has not passed.
        observed: what was found, in a few words.
        columns: the columns the rule looks at; for a rule on the columns themselves, those missing or too many.
        rows: up to 20 of the rows at fault, as {column: value} with the columns that name a row first.
        count: how many rows (or columns, or values of a set) are at fault.
        error: why the rule could not be checked (a missing column by its name); None if it could.
    """

    name: str
    description: str
    severity: str
    passed: bool
    observed: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    count: int
    error: str | None = None


@dataclass(frozen=True)
class ContractResult:
    """What one suite found on one table.

    Attributes:
        suite: its name.
        passed: whether every rule holds, warnings included.
        blocking_failed: whether a critical rule fails: nothing may be built on this table.
        checks: one outcome per rule that applied, in the suite's order.
        skipped: names of the rules whose `when` did not apply.
    """

    suite: str
    passed: bool
    blocking_failed: bool
    checks: tuple[CheckOutcome, ...]
    skipped: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[CheckOutcome, ...]:
        """The outcomes that did not pass, critical ones first."""
        return tuple(sorted((c for c in self.checks if not c.passed), key=lambda c: c.severity != "critical"))


def as_markdown(result: ContractResult, rows_shown: int = 8) -> str:
    """The result as Markdown: one line in words, a table of failed rules, then the rows at fault by name."""
    total = len(result.checks)
    failed = result.failed
    if not failed:
        return f"**{result.suite}**: all {total} rules hold."
    stop = "blocks what comes after" if result.blocking_failed else "warnings only"
    lines = [
        f"**{result.suite}**: {len(failed)} of {total} rules fail ({stop}).",
        "",
        "| rule | severity | found | columns | what it asks |",
        "| --- | --- | --- | --- | --- |",
    ]
    for c in failed:
        cells = (c.name, c.severity, c.error or c.observed, ", ".join(c.columns), c.description)
        lines.append("| " + " | ".join(_cell(x) for x in cells) + " |")
    for c in failed:
        if not c.rows:
            continue
        shown = c.rows[:rows_shown]
        header = list(dict.fromkeys(k for row in shown for k in row))
        lines += ["", f"Rows of `{c.name}` ({len(shown)} of {c.count}):", ""]
        lines += ["| " + " | ".join(map(_cell, header)) + " |", "|" + " --- |" * len(header)]
        lines += ["| " + " | ".join(_cell(row.get(k, "")) for k in header) + " |" for row in shown]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    text = "null" if value is None else str(value)
    for raw, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), (">", "&gt;"), ("\n", " ")):
        text = text.replace(raw, safe)
    return text


def column_list(kwargs: Mapping[str, Any]) -> list[str]:
    """The columns an expectation looks at, in order."""
    named = [kwargs[k] for k in ("column", "column_A", "column_B") if k in kwargs]
    return [*named, *kwargs.get("column_list", ())]


def outcome(
    suite: Mapping[str, Any],
    expectation: Mapping[str, Any],
    result: Any,
    full: pl.DataFrame,
    parameters: Mapping[str, Any],
    broken: Mapping[str, str],
) -> CheckOutcome:
    """Put what Great Expectations found for one expectation into our words.

    Args:
        suite, expectation: as the JSON has them.
        result: its validation result; None where a helper column could not be made, with the reason in `broken`.
        full: the table with its helper columns, to look rows up by position.
        parameters: what the suite's parameters stand for.
    """
    meta, kwargs = expectation["meta"], expectation["kwargs"]
    columns = tuple(column_list(kwargs))
    observed, count = "", 0
    rows: tuple[dict[str, Any], ...] = ()
    error = next((broken[c] for c in columns if c in broken), None) if result is None else _exception(result)
    passed = error is None and bool(result.success)
    if error is not None:
        observed = "could not be checked"
    elif "unexpected_index_list" in result.result or "partial_unexpected_index_list" in result.result:
        detail = result.result
        count = int(detail["unexpected_count"])
        observed = f"{count:,} of {detail['element_count']:,} rows"
        name_by = meta.get("rows") or suite.get("meta", {}).get("rows", [])
        positions = [int(p) for p in detail["partial_unexpected_index_list"][:ROWS_NAMED]]
        rows = _named_rows(full, positions, [*name_by, *columns])
    elif "details" in result.result:
        mismatch = result.result["details"].get("mismatched", {})
        # Without exact_match the unexpected columns are listed too, but they are no fault.
        kinds = ("missing", "unexpected") if kwargs.get("exact_match", True) else ("missing",)
        faults = [(c, kind) for kind in kinds for c in mismatch.get(kind, ())]
        observed = "; ".join(f"{kind}: {c}" for c, kind in faults) or "the columns agreed on"
        columns = tuple(c for c, _ in faults)
        rows = tuple({"column": c, "fault": kind} for c, kind in faults[:ROWS_NAMED])
        count = len(faults)
    elif "partial_missing_list" in result.result or "partial_unexpected_list" in result.result:
        detail = result.result
        faults = [(v, "missing") for v in detail.get("partial_missing_list") or ()]
        faults += [(v, "unexpected") for v in detail.get("partial_unexpected_list") or ()]
        count = int(detail.get("missing_count") or 0) + int(detail.get("unexpected_count") or 0)
        observed = "; ".join(f"{kind}: {v}" for v, kind in faults[:ROWS_NAMED]) or "the values agreed on"
        rows = tuple({columns[0]: _plain(v), "fault": kind} for v, kind in faults[:ROWS_NAMED])
    else:
        observed = str(_plain(result.result.get("observed_value")))
        asked = next((kwargs[k] for k in ("value", "type_") if k in kwargs), None)
        if isinstance(asked, Mapping):
            asked = parameters[asked["$PARAMETER"]]
        if not passed:
            observed, count = f"{observed}, expected {asked}", 1
    severity = SEVERITIES[expectation["severity"]]
    return CheckOutcome(
        meta["name"], expectation["description"], severity, passed, observed, columns, rows, count, error
    )


def _exception(result: Any) -> str | None:
    """The message of a rule that could not be run; Great Expectations nests it per metric."""
    info = result.exception_info or {}
    parts = [info] if "raised_exception" in info else list(info.values())
    messages = [str(p.get("exception_message")) for p in parts if p.get("raised_exception")]
    return " ".join(dict.fromkeys(messages)) if messages else None


def _named_rows(full: pl.DataFrame, positions: Sequence[int], columns: Sequence[str]) -> tuple[dict[str, Any], ...]:
    kept = [c for c in dict.fromkeys(columns) if c in full.columns]
    return tuple({k: _plain(v) for k, v in row.items()} for row in full[list(positions)].select(kept).to_dicts())


def _plain(value: Any) -> Any:
    """A value that JSON and a reader understand."""
    if isinstance(value, (datetime, date)):
        return value.isoformat(sep=" ") if isinstance(value, datetime) else value.isoformat()
    if hasattr(value, "item") and not isinstance(value, (list, str)):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
