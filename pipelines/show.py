"""Tables on a terminal, or one JSON object per row."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer

from assets.project import Project


def warn_unlike(project: Project, benchmark: str | None) -> None:
    """Say on standard error which results may not be read together."""
    from assets.results import runs, unlike

    for line in unlike(project, runs(project, benchmark)):
        typer.echo(f"· not of one kind: {line}", err=True)


def show_leaderboard(rows: list[dict[str, Any]], as_json: bool) -> None:
    """All of it as JSON; for people, what fits on a line of a terminal."""
    if as_json:
        show(rows, as_json)
        return
    short = []
    for row in rows:
        line = {name: row[name] for name in ("benchmark", "stage", "seed", "mse", "mae", "n_series", "train_seconds")}
        verdict = ""
        if row["verdict"]:
            p = (
                "no test"
                if row["p_holm"] is None
                else "p < 0.001"
                if row["p_holm"] < 0.001
                else f"p = {row['p_holm']:.3f}"
            )
            than = "from" if row["verdict"].startswith("no") else "than"
            verdict = f"{row['verdict']} {than} {row['against']} ({p})"
        short.append(line | {"verdict": verdict or "-"})
    show(short, as_json)


def show(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Rows with the same keys."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row, default=str))
        return
    if not rows:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]:
        numeric = all(isinstance(r[name], (int, float, type(None))) for r in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(v) for v in row.values()))
    # Piped output is not cut to the width of a terminal that is not there.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, soft_wrap=not sys.stdout.isatty()).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    return str(value)
