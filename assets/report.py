"""comparison, leaderboard, report: views over all results. Made from what is in git, so they are hashed nowhere."""

import dagster as dg

from assets.producing import PROCESS_TAG
from assets.project import Project
from assets.storage import owner, to_json, write_text
from assets.versions import Versions


@dg.asset(
    deps=["evaluation"],
    group_name="results",
    kinds={"parquet"},
    description=(
        "Every stage against the one below it and against the baselines: effect, block-bootstrap interval, "
        "Diebold–Mariano with Holm's correction, and the smallest gap the data could have shown."
    ),
)
def comparison(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    import dataclasses

    import polars as pl

    from assets.results import comparisons, runs
    from assets.storage import disk_errors

    project = _begin(context)
    tables = comparisons(project, runs(project))
    rows = [{"benchmark": b} | dataclasses.asdict(row) for b, table in tables.items() for row in table]
    path = project.report / "comparison.parquet"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temp = path.with_name(f".{path.name}.{owner()}")
        pl.DataFrame(rows, schema=None if rows else {"benchmark": pl.String}).write_parquet(temp)
        temp.replace(path)
    verdicts = "\n".join(
        f"| {r['benchmark']} | {r['stage']} | {r['other']} | {_effect(r['effect'])} | {r['verdict']} |" for r in rows
    )
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(rows),
            "verdicts": dg.MetadataValue.md(
                f"| benchmark | stage | against | MSE | verdict |\n|---|---|---|---|---|\n{verdicts}"
            ),
        }
    )


@dg.asset(
    deps=["comparison"],
    group_name="results",
    kinds={"json"},
    description="Every benchmark × stage × seed with its errors, best first, and the verdict against the stage below.",
)
def leaderboard(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from assets.results import leaderboard_rows

    project = _begin(context)
    rows = leaderboard_rows(project)
    write_text(project.report / "leaderboard.json", to_json(rows))
    lines = [
        f"| {r['benchmark']} | {r['stage']} | {r['seed']} | {_four(r['mse'])} | {_four(r['mae'])} "
        f"| {r['n_series']} | {r['verdict'] or ''} |"
        for r in rows
    ]
    table = (
        "| benchmark | stage | seed | MSE | MAE | series | against the stage below |\n|---|---|---|---|---|---|---|\n"
    )
    return dg.MaterializeResult(
        metadata={"dagster/row_count": len(rows), "leaderboard": dg.MetadataValue.md(table + "\n".join(lines))}
    )


def _effect(value: float) -> str:
    return "-" if value != value else f"{value:+.4f}"


def _four(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _begin(context: dg.AssetExecutionContext) -> Project:
    context.instance.add_run_tags(context.run_id, {PROCESS_TAG: owner()})
    return Project.find()


@dg.asset(
    deps=["leaderboard", "wavelet_coefficients"],
    group_name="results",
    kinds={"html"},
    description="One HTML page, no network: leaderboard, forecasts, errors per scale and step, curves, lineage.",
)
def report(context: dg.AssetExecutionContext, versions: dg.ResourceParam[Versions]) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from assets.report_build import gather
    from assets.report_page import render

    project = _begin(context)
    data = gather(project, versions.artifacts(project))
    path = project.report / "report.html"
    write_text(path, render(data))
    versions.commit_report(project)
    best = {b.name: b.best.stage for b in data.benchmarks if b.best is not None}
    return dg.MaterializeResult(
        metadata={
            "page": dg.MetadataValue.path(str(path)),
            "benchmarks": len(data.benchmarks),
            "smallest MSE": dg.MetadataValue.json(best),
        }
    )
