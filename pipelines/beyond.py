"""`wavecore compare --beyond`: what an MSE over everything does not say, of each stage beside `base`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assets.project import Project

# What seeds are held against.
BELOW = "base"
# Seeds on either side from which on it says something that all of one side lie below all of the other: three and three
# do so by chance in one of ten cases, either side counted.
ENOUGH = 3


def rows_of(project: Project, benchmark: str | None, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """One row per measure and stage, up the ladder.

    Each has `value`, the mean over seeds (a measure that a seed was judged without has no row); `of_base`, the same
    of `base`; and `seeds_lie`: `below` or `above` where each seed lies so to each seed of `base`, with three on either
    side or more.

    Args:
        chosen: stages to show, `base` only if it is one of them; () for all.
    """
    from assets.results import beyond, runs

    found = runs(project, benchmark)
    rows = []
    for name in dict.fromkeys(run.benchmark for run in found):
        of_stage: dict[str, list[Any]] = {}
        for run in found:
            if run.benchmark == name:
                of_stage.setdefault(run.stage, []).append(run)
        below = of_stage.get(BELOW, [])
        means, single = beyond(below) if below else {}, [beyond([run]) for run in below]
        for stage, own in of_stage.items():
            if chosen and stage not in chosen:
                continue
            apart = [beyond([run]) for run in own]
            for measure, value in beyond(own).items():
                if value is None:
                    continue
                rows.append(
                    {
                        "benchmark": name,
                        "measure": measure,
                        "stage": stage,
                        "seeds": len(own),
                        "value": value,
                        "of_base": means.get(measure),
                        "seeds_lie": _lie([one[measure] for one in apart], [one.get(measure) for one in single]),
                    }
                )
    return rows


def _lie(own: Sequence[float | None], below: Sequence[float | None]) -> str | None:
    mine, others = ([v for v in values if v is not None] for values in (own, below))
    if min(len(mine), len(others)) < ENOUGH or len(mine) < len(own) or len(others) < len(below):
        return None
    return "below" if max(mine) < min(others) else "above" if min(mine) > max(others) else None


def wide(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """benchmark → a table of cells: measures down, stages (and how many seeds) across; ▼ and ▲ where seeds lie below or
    above those of `base`."""
    tables: dict[str, list[dict[str, str]]] = {}
    for benchmark in dict.fromkeys(row["benchmark"] for row in rows):
        own = {(row["measure"], row["stage"]): row for row in rows if row["benchmark"] == benchmark}
        seeds = {stage: row["seeds"] for (_, stage), row in own.items()}
        tables[benchmark] = [
            {"measure": measure} | {f"{stage} ({n})": _cell(own.get((measure, stage))) for stage, n in seeds.items()}
            for measure in dict.fromkeys(measure for measure, _ in own)
        ]
    return tables


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    mark = {"below": " ▼", "above": " ▲", None: ""}[row["seeds_lie"]]
    return f"{row['value']:.4g}{mark}"


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The tables for a document."""
    tables = []
    for benchmark, table in wide(rows).items():
        heads = [name.replace(" (", "` (") for name in list(table[0])[1:]]
        lines = [
            f"| `{benchmark}` | " + " | ".join(f"`{head}" for head in heads) + " |",
            "| --- |" + " ---: |" * len(heads),
            *(f"| {' | '.join(row.values())} |" for row in table),
        ]
        tables.append("\n".join(lines))
    return "\n\n".join(tables)
