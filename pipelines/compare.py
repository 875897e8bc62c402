"""`wavecore compare`: each stage against the one below it and against the baselines: effect, interval, p and cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from assets.project import Project
from pipelines.show import show, warn_unlike
from wavecore import stages


def rows_of(project: Project, benchmark: str | None, chosen: tuple[str, ...]) -> list[dict[str, Any]]:
    """One row per pair, up the ladder; pairs are corrected with all of their family, shown or not.

    Args:
        chosen: stages to show; () for all.
    """
    from assets.results import comparisons, runs

    found = runs(project, benchmark)
    seconds: dict[tuple[str, str], list[tuple[float | None, str | None]]] = {}
    for run in found:
        spent = (run.seconds.get("train_seconds"), run.seconds.get("machine"))
        seconds.setdefault((run.benchmark, run.stage), []).append(spent)
    rows = []
    for name, table in comparisons(project, found).items():
        for pair in table:
            if chosen and pair.stage not in chosen:
                continue
            rows.append(
                {
                    "benchmark": name,
                    "stage": pair.stage,
                    "against": pair.other,
                    "seeds": f"{pair.n_seeds}:{pair.other_n_seeds}",
                    "effect": _known(pair.effect),
                    "percent": _known(100 * pair.relative),
                    "low": _known(pair.low),
                    "high": _known(pair.high),
                    "p": _known(pair.p),
                    "p_holm": _known(pair.p_holm),
                    "detectable": _known(pair.detectable),
                    "verdict": pair.verdict,
                    "train_seconds": _mean(seconds[name, pair.stage]),
                    "against_seconds": _mean(seconds[name, pair.other]),
                }
            )
    return rows


def _known(value: float) -> float | None:
    return None if value != value else value


def _mean(spent: list[tuple[float | None, str | None]]) -> float | None:
    """Of the seeds' seconds; None where one is not known, or where they are of different machines."""
    known = [seconds for seconds, _ in spent if seconds is not None]
    same = len({machine for _, machine in spent}) == 1
    return sum(known) / len(known) if known and same and len(known) == len(spent) else None


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table for a document: differences, intervals and what was detectable in thousandths."""
    lines = [
        "| benchmark | stage | against | seeds | MSE less or more, 10⁻³ | % | p | detectable | verdict | training |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: | --- | ---: |",
    ]
    for row in rows:
        interval = "" if row["low"] is None else f" [{1e3 * row['low']:+.1f}, {1e3 * row['high']:+.1f}]"
        cells = [
            *(f"`{row[key]}`" for key in ("benchmark", "stage", "against")),
            row["seeds"],
            "–" if row["effect"] is None else f"{1e3 * row['effect']:+.1f}{interval}",
            "–" if row["percent"] is None else f"{row['percent']:+.1f}",
            "–" if row["p_holm"] is None else "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}",
            "–" if row["detectable"] is None else f"{1e3 * row['detectable']:.1f}",
            row["verdict"],
            "–" if row["train_seconds"] is None else f"{row['train_seconds']:.0f} s",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(
    benchmark: Annotated[str | None, typer.Option("--benchmark", "-b", help="A benchmark; default: all.")] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", "-s", help="Only these stages, with commas; p counts all of a family.")
    ] = None,
    beyond: Annotated[
        bool,
        typer.Option(
            "--beyond", help="What the mean error does not say: near and far steps, movement, events, disturbances."
        ),
    ] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="A table for a document.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per row.")] = False,
) -> None:
    """Every stage against the one below it and the baselines: effect, interval, p, smallest detectable gap, cost.

    Differences are means over seeds (how many: stage:other) of the test MSE; `p_holm` is corrected for all pairs of the
    ladder, of a stage's variants among themselves. Training seconds are a mean over seeds, where one machine trained
    them all and its times are known here.

    With --beyond what a mean says nothing of instead, one stage a column, without a test: ▼ or ▲ where each seed
    (three or more) lies below or above each of `base`.
    """
    project = Project.find()
    chosen = tuple(stages.get(name.strip()).name for name in stage.split(",")) if stage else ()
    name = project.catalog().benchmark(benchmark).name if benchmark else None
    if beyond:
        _beyond(project, name, chosen, as_markdown, as_json)
        return
    rows = rows_of(project, name, chosen)
    warn_unlike(project, name)
    if not rows and not as_json:
        typer.echo("nothing to compare yet: run two stages, such as `wavecore run --benchmark demo`")
    elif as_markdown:
        typer.echo(markdown(rows))
    else:
        show(rows, as_json)


def _beyond(project: Project, benchmark: str | None, chosen: tuple[str, ...], as_markdown: bool, as_json: bool) -> None:
    from pipelines import beyond

    rows = beyond.rows_of(project, benchmark, chosen)
    warn_unlike(project, benchmark)
    if as_json:
        show(rows, as_json)
    elif not rows:
        typer.echo("nothing is judged yet: `wavecore run --benchmark demo`")
    elif as_markdown:
        typer.echo(beyond.markdown(rows))
    else:
        for name, table in beyond.wide(rows).items():
            typer.echo(name)
            show(table, as_json)
