"""The command line. Every command is a few lines over the driver and the views; none knows how anything is done."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from assets.project import Project
from pipelines import bench
from pipelines.compare import compare
from pipelines.ladder import ladder
from pipelines.online import stream
from pipelines.premises import premises, tokens
from pipelines.show import show, show_leaderboard, warn_unlike
from wavecore.errors import BusyError, Interrupted, SettingsError, StorageError, WavecoreError

app = typer.Typer(
    name="wavecore",
    help="From a raw series to a judged forecast: run, compare, ask, repeat.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(bench.app, name="bench")
app.command()(premises)
app.command()(tokens)
app.command()(ladder)
app.command()(compare)
app.command()(stream)

Json = Annotated[bool, typer.Option("--json", help="One JSON object per row.")]
BenchmarkOption = Annotated[
    str | None, typer.Option("--benchmark", "-b", help="A benchmark of data_contracts/benchmarks/.")
]
StageOption = Annotated[
    str | None, typer.Option("--stage", "-s", help="A stage of the ladder, or several with commas.")
]


def main() -> None:
    """Entry point: an error meant for the user is two lines on standard error, never a traceback."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.getLogger("wavecore").addHandler(handler)  # this program's warnings alone
    try:
        app()
    except WavecoreError as error:
        typer.echo(f"error: {error}", err=True)
        codes = {BusyError: 75, Interrupted: 130}  # 75: try again later; 130: stopped by the user
        sys.exit(codes.get(type(error), 1))
    except BrokenPipeError:
        # The reader (`head`) has what it wanted.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(line: str) -> None:
    typer.echo(f"· {line}", err=True)


@app.command()
def run(
    benchmark: BenchmarkOption = None,
    stage: StageOption = None,
    seed: Annotated[int | None, typer.Option(help="Train this seed; a new one is added to params.yaml.", min=0)] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Also start runs estimated above pipeline.limit_minutes.")] = False,
    as_json: Json = False,
) -> None:
    """Bring benchmark × stage up to date, from the raw file to the report; without options, the default matrix."""
    from pipelines.driver import drive
    from pipelines.edit import ask_for_seed
    from wavecore import stages as ladder

    project = Project.find()
    pipeline = project.settings().pipeline
    benchmarks = (benchmark,) if benchmark else pipeline.benchmarks
    chosen = tuple(ladder.get(s.strip()).name for s in stage.split(",")) if stage else pipeline.stages
    if seed is not None:
        for name in benchmarks:
            for rung in chosen:
                if ask_for_seed(project, name, rung, seed):
                    _say(f"params.yaml: seed {seed} added for {name} {rung}")
    outcome = drive(project, benchmarks, chosen, seed=seed, allow_hours=yes, say=_say)
    if not outcome.ran:
        _say("everything was up to date")
    rows = [r for b in benchmarks for r in _leaderboard(project, b) if r["stage"] in chosen]
    if seed is not None:
        rows = [r for r in rows if r["seed"] == seed or not ladder.get(r["stage"]).seeded]
    show_leaderboard(rows, as_json)


@app.command()
def demo() -> None:
    """The generated benchmark `demo` with the default stages, to the report; prints the leaderboard."""
    from assets.results import runs
    from pipelines.driver import drive

    project = Project.find()
    drive(project, ("demo",), project.settings().pipeline.stages, say=_say)
    show_leaderboard(_leaderboard(project, "demo"), as_json=False)
    typer.echo(f"\nreport: {project.report / 'report.html'}")
    _need_above_mean([r for r in runs(project, "demo") if r.stage in project.settings().pipeline.stages])


def _need_above_mean(found: list[Any]) -> None:
    """A model that is no better than the mean of its window has learned nothing, whatever else went well."""
    from wavecore import stages as ladder
    from wavecore.judge.metrics import WINDOW_MEAN

    for run in found:
        error, naive = run.value("mse"), run.value("mse", WINDOW_MEAN)
        if naive is None:
            raise WavecoreError(
                f"results/{run.benchmark}/{run.stage}: the error of the window's mean is missing",
                f"wavecore materialize evaluation '{run.benchmark}|{run.stage}'",
            )
        if ladder.get(run.stage).trained and not (error is not None and error < naive):
            raise WavecoreError(
                f"{run.benchmark} {run.stage} seed {run.seed}: test MSE {error}, the window's mean has {naive}",
                "give it more steps or another learning rate (params.yaml: families, stages, overrides)",
            )


@app.command(hidden=True)
def materialize(
    asset: Annotated[str, typer.Argument(help="An asset's name.")],
    key: Annotated[str, typer.Argument(help="Its partition: demo, demo.T168, 'demo|dlinear'.")] = "",
) -> None:
    """Materialize one partition of one asset: what DVC's stages call."""
    from pipelines.driver import materialize as materialize_step

    materialize_step(Project.find(), asset, key)


@app.command()
def plan(
    benchmark: BenchmarkOption = None,
    stage: StageOption = None,
    minutes: Annotated[
        float | None, typer.Option(help="Say how many steps of training fit into so many minutes.", min=0.01)
    ] = None,
    as_json: Json = False,
) -> None:
    """What a run would do, and what it would cost on this machine; measures a few steps and trains nothing."""
    from pipelines.plan import estimate, pending
    from wavecore import stages as ladder

    project = Project.find()
    pipeline = project.settings().pipeline
    benchmarks = (benchmark,) if benchmark else pipeline.benchmarks
    chosen = tuple(ladder.get(s.strip()).name for s in stage.split(",")) if stage else pipeline.stages
    if not as_json:
        for asset, key, state in pending(project, benchmarks, chosen):
            typer.echo(f"{state:10}  {asset}  {key}")
        typer.echo("")
    rows = []
    for name in benchmarks:
        for rung in chosen:
            try:
                found = estimate(project, name, rung, minutes)
            except StorageError as error:
                # Of the benchmark, so the same for its other stages.
                typer.echo(f"cost of {name}: unknown until its series is here\n  fix: {error.fix}", err=True)
                break
            row: dict[str, Any] = {
                "benchmark": name,
                "stage": rung,
                "steps": found.steps,
                "step_seconds": round(found.step_seconds, 4),
                "test_seconds": round(found.test_seconds, 2),
                "minutes": round(found.minutes, 2),
            }
            if minutes is not None:
                row["steps_that_fit"] = found.steps_that_fit
            rows.append(row)
    show(rows, as_json)


@app.command()
def leaderboard(
    benchmark: BenchmarkOption = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="For a document: a row per stage, a column per benchmark.")
    ] = False,
    as_json: Json = False,
) -> None:
    """All results in results/, best first per benchmark, with the comparison to the stage below."""
    from pipelines.matrix import markdown

    project = Project.find()
    if as_markdown and as_json:
        raise SettingsError("--markdown and --json at once", "choose one of them")
    if as_markdown and (lines := markdown(project, benchmark)):
        warn_unlike(project, benchmark)
        typer.echo("\n".join(lines))
        return
    rows = _leaderboard(project, benchmark)
    if not rows and not as_json:
        typer.echo("no results yet: `wavecore run`, or `make demo`")
    show_leaderboard(rows, as_json)


@app.command()
def add(
    file: Annotated[
        Path, typer.Argument(help="A CSV or Parquet file: wide (a time column, a column per channel) or long.")
    ],
    name: Annotated[str | None, typer.Option(help="Name of the dataset and benchmark; default: the file's.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone of a local clock, such as Europe/Berlin.")] = None,
    window: Annotated[int | None, typer.Option(help="Steps the model sees (T).", min=2)] = None,
    horizon: Annotated[int | None, typer.Option(help="Steps it forecasts (H).", min=1)] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="A text that stands for 'no value'; can be given again.")
    ] = None,
) -> None:
    """Take up your own file: writes its short YAML, shows what was understood, and puts it on the default matrix."""
    from pipelines.edit import add_own

    told = {"name": name, "timezone": timezone, "window": window, "horizon": horizon, "missing": tuple(missing or ())}
    for line in add_own(Project.find(), file, **told):  # type: ignore[arg-type]
        typer.echo(line)


@app.command()
def promote(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    stage: Annotated[str | None, typer.Option("--stage", "-s", help="The stage to promote.")] = None,
    seed: Annotated[int, typer.Option(help="Which of its seeds.", min=0)] = 0,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Point to the champion before this one instead.")
    ] = False,
) -> None:
    """Copy a trained model into the registry, where nothing changes it, and make it the benchmark's champion."""
    from assets import registry
    from pipelines.dvc import commit_registry, require_registry

    project = Project.find()
    name = project.catalog().benchmark(benchmark).name
    if rollback == (stage is not None):
        raise WavecoreError("promote: give either --stage or --rollback", f"wavecore promote -b {name} --stage dlinear")
    require_registry(project)
    found = registry.promote(project, name, stage, seed) if stage else registry.roll_back(project, name)
    commit_registry(project)
    typer.echo(f"champion of {name}: {found.stage} seed {found.seed} ({found.entry})")


@app.command()
def champion(benchmark: BenchmarkOption = None, as_json: Json = False) -> None:
    """Which model serves which benchmark; every entry is read back and verified."""
    from assets import registry
    from pipelines.dvc import require_registry

    project = Project.find()
    require_registry(project)
    catalog = project.catalog()
    names = [catalog.benchmark(benchmark).name] if benchmark else list(catalog.benchmarks)
    rows = []
    for name in names:
        found = registry.champion(project, name)
        if found is not None:
            registry.verify(project, name, found.entry)
            rows.append({"benchmark": name, "stage": found.stage, "seed": found.seed, "entry": found.entry})
    if not rows and not as_json:
        typer.echo("no champion yet: wavecore promote --benchmark B --stage S")
    show(rows, as_json)


@app.command()
def sql(
    text: Annotated[str, typer.Argument(help='Such as "select stage, avg(mse) from evaluation group by 1".')],
    as_json: Json = False,
) -> None:
    """Ask the tables: series, windows, wavelet_statistics, splits, evaluation, metrics, losses, forecasts …"""
    from pipelines.sql import query

    show(query(Project.find(), text).to_dicts(), as_json)


@app.command()
def prompt(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    window: Annotated[int, typer.Option(help="As in the table `windows`: the row of its first step.", min=0)],
    stage: Annotated[str, typer.Option("--stage", "-s", help="A stage with a language model.")] = "prompt",
    channel: Annotated[str | None, typer.Option(help="One channel; without it all.")] = None,
    as_json: Json = False,
) -> None:
    """What the language model is told about a window, with its number of tokens."""
    from pipelines.prompts import prompts_of

    rows = prompts_of(Project.find(), benchmark, stage, window, channel)
    if as_json:
        show(rows, as_json)
        return
    for row in rows:
        left = f"; no room for: {'; '.join(row['left_out'])}" if row["left_out"] else ""
        typer.echo(f"{row['channel']} ({row['tokens']} tokens{left})\n  {row['text']}")


@app.command()
def sync() -> None:
    """After `dvc pull` or an edit of params.yaml: bring dvc.yaml, Dagster and store/wavecore.duckdb up to date."""
    from pipelines.sync import in_short
    from pipelines.sync import sync as bring

    done = bring(Project.find())
    if done.files_changed:
        typer.echo("dvc.yaml was brought up to date")
    typer.echo(f"{len(done.reported)} artifacts reported to Dagster, {len(done.known)} known already")
    if done.absent:
        typer.echo(f"not here: {in_short(done.absent)}\n  fix: `dvc pull`, or `wavecore run`")


@app.command()
def accept(
    because: Annotated[str, typer.Option(help="What changed, and how it was shown to give equal results.")],
) -> None:
    """Accept refactored code as result-equal, on the record, instead of running everything again."""
    from pipelines.accept import accept as take

    for name in take(Project.find(), because):
        typer.echo(f"accepted: {name}")


@app.command()
def doctor() -> None:
    """What is missing on this machine and the fix; what a licence asks before a push."""
    from pipelines.doctor import examine

    missing = False
    for f in examine(Project.find()):
        typer.echo(f"{f.level:8}{f.what}" + (f"\n        fix: {f.fix}" if f.fix else ""))
        missing = missing or f.level == "missing"
    if missing:
        raise typer.Exit(1)


@app.command()
def ui(port: Annotated[int, typer.Option(help="On 127.0.0.1.")] = 3000) -> None:
    """The Dagster UI with its daemon, on the loopback address alone; telemetry is off."""
    from pipelines.home import prepare
    from pipelines.sync import sync as bring

    project = Project.find()
    bring(project)
    prepare(project)
    typer.echo(f"http://127.0.0.1:{port} (Ctrl-C ends it)")
    os.chdir(project.root)
    # The server has no login and obeys any page that reaches it, so it listens nowhere but here.
    command = ["dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
    os.execv(  # noqa: S606
        sys.executable, [sys.executable, "-m", *command]
    )


def _leaderboard(project: Project, benchmark: str | None) -> list[dict[str, Any]]:
    from assets.results import leaderboard_rows

    warn_unlike(project, benchmark)
    return leaderboard_rows(project, benchmark)


if __name__ == "__main__":
    main()
