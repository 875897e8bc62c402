"""`wavecore leaderboard --markdown`: a row per stage, a column per benchmark."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from assets.project import Project
from assets.results import leaderboard_rows
from wavecore import stages

# A ladder was climbed where this stage was run.
BASE = "base"
MARKS = {"better": " ▼", "worse": " ▲"}


def markdown(project: Project, benchmark: str | None = None) -> list[str]:
    """Mean test MSE over seeds, lines of Markdown; variants of a stage (`base.plain`) are left out.

    A cell says how many seeds it is a mean of where these are not three, and whether the stage is shown to be better
    (▼) or worse (▲) than the one it is held against (where that was not run, the next one down). The lowest error of a
    column is bold. The last column is the mean of the training seconds on the first benchmark, where they are known
    here.

    Args:
        benchmark: the only column; None: all on which `base` was run.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in leaderboard_rows(project, benchmark):
        if "." not in row["stage"] and row["mse"] is not None:
            found.setdefault(row["benchmark"], {}).setdefault(row["stage"], []).append(row)
    columns = {name: own for name, own in found.items() if benchmark or BASE in own}
    if not columns:
        return []
    errors = {
        (name, stage): fmean(row["mse"] for row in rows) for name, own in columns.items() for stage, rows in own.items()
    }
    lowest = {name: min(value for key, value in errors.items() if key[0] == name) for name in columns}
    first = next(iter(columns))
    lines = [
        f"| stage | against | {' | '.join(f'`{name}`' for name in columns)} | training, `{first}` |",
        f"| --- | --- |{' ---: |' * (len(columns) + 1)}",
    ]
    for stage in stages.names():
        if not any(stage in own for own in columns.values()):
            continue
        below = stages.get(stage).below
        cells = [f"`{stage}`", f"`{below}`" if below else "–"]
        for name, own in columns.items():
            rows = own.get(stage)
            cells.append(_cell(errors[name, stage], rows, lowest[name], stages.get(stage).seeded) if rows else "")
        spent = [row["train_seconds"] for row in columns[first].get(stage, ())]
        known = [seconds for seconds in spent if seconds is not None]
        cells.append(f"{fmean(known):.0f} s" if known and len(known) == len(spent) else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(error: float, rows: list[dict[str, Any]], lowest: float, seeded: bool) -> str:
    shown = f"**{error:.4f}**" if error == lowest else f"{error:.4f}"
    count = f" ({len(rows)})" if seeded and len(rows) != 3 else ""
    return shown + MARKS.get(rows[0]["verdict"], "") + count
