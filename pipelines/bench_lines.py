"""Rows of `wavecore bench` as lines: what a person reads, or one JSON object each for a file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from wavecore.bench.rows import Row

# What a bench runs.
MEASURED = ("wavecore", "assets", "pipelines", "params.yaml")


def show(rows: Iterable[Row], as_json: bool) -> None:
    """Each row as soon as it is there; for a file, what measured them first."""
    for row in chain([here()] if as_json else [], rows):
        typer.echo(json.dumps(row.plain()) if as_json else line(row))


def here() -> Row:
    """The machine, which code is measured and when: the commit, with a + where code or settings differ from it.

    Results may differ: the file that the rows are written to is one of them.
    """
    import subprocess
    from datetime import UTC, datetime

    from assets.project import Project
    from pipelines.accept import commit_of
    from wavecore.bench.rows import machine

    project = Project.find()
    commit = commit_of(project)[:10]
    if commit:
        status = ["git", "status", "--porcelain", "--untracked-files=no", "--", *MEASURED]
        done = subprocess.run(status, cwd=project.root, capture_output=True, text=True)
        commit += "+" if done.stdout.strip() else ""
    row = machine()
    made = {"commit": commit or "no git", "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    return replace(row, more={**row.more, **made})


def line(row: Row) -> str:
    """For a person."""
    parts = [f"{row.bench:<8} {row.backbone or '-':<7} {row.series or '-':>5} {row.dtype or '-':<8} {row.path}"]
    if row.ratio_median is not None:
        parts.append(
            f"{row.ratio_median:.2f}× ({row.ratio_min:.2f} to {row.ratio_max:.2f}) against {row.other}"
            f"{', ' + row.other_dtype if row.other_dtype else ''}"
        )
    if row.seconds is not None:
        other = f" against {row.other_seconds:.4g} s" if row.other_seconds is not None else ""
        parts.append(f"{row.seconds:.4g} s{other}")
    if row.error is not None:
        parts.append(f"difference {row.error:.2g}")
    parts += [f"{key} {_short(value)}" for key, value in row.more.items()]
    return "; ".join(parts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
