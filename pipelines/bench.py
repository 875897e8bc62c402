"""`wavecore bench`: what it costs, as ratios of two sides measured in turn by `wavecore.bench`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.bench_lines import here, line, show
from pipelines.bench_options import (
    Also,
    Backbone,
    Depth,
    Facts,
    Json,
    Peer,
    Repeats,
    Series,
    Threads,
    Tokens,
    fractions,
    further,
    known_backbone,
    numbers,
)
from wavecore.bench import SIZE
from wavecore.errors import SettingsError
from wavecore.model.settings import Size

if TYPE_CHECKING:
    from wavecore.bench.rows import Row

# Below and above the list of params.yaml.
RATES = "1e-7,1e-6,3e-6,1e-5,3e-5,1e-4,3e-4,1e-3,3e-3"

app = typer.Typer(help="Speed and memory, measured here and now.", no_args_is_help=True)


def _everything(peer: bool) -> Iterator[Row]:
    """All rows."""
    from wavecore.bench.features import wavelet as transforms
    from wavecore.bench.latency import latency as one_window
    from wavecore.bench.limits import limits
    from wavecore.bench.memory import backward
    from wavecore.bench.memory import memory as peaks
    from wavecore.bench.rows import Row
    from wavecore.bench.scale import scale as lengths
    from wavecore.bench.speed import speed
    from wavecore.bench.stream import streamed
    from wavecore.errors import StorageError

    yield here()
    for bench in ("infer", "train"):
        for count, repeats in ((28, 5), (112, 3)):
            yield from speed(bench, "minilm", count, repeats, 2, SIZE, peer)
        yield from speed(bench, "gpt2", 28, 3, 2, SIZE, peer=False)
    yield from transforms()
    yield from peaks("minilm", 28)
    yield from backward("minilm", 28)
    yield from limits("minilm", 4.0)
    yield from one_window()
    yield from lengths("minilm")
    yield from lengths("qwen2", (512, 1024, 2048, 4096, 8192), repeats=1)
    try:
        yield from _features("ettm1_96", 3)
    except StorageError as error:
        yield Row("features", "vectorized", "pywt_loop", more={"stopped": f"{error.problem}; {error.fix}"})
    yield from streamed(1.0)


def _ladder() -> tuple[str, ...]:
    """The stages of pipeline.ladder that stand beside `base`."""
    from assets.project import Project
    from wavecore import stages as ladder
    from wavecore.bench.stages import BELOW

    family, names = ladder.get(BELOW).family, Project.find().settings().pipeline.ladder
    return tuple(name for name in names if ladder.get(name).family == family and name != BELOW)


def _features(benchmark: str, repeats: int) -> Iterator[Row]:
    """The rows of `features`.

    Raises:
        StorageError: the benchmark's series is not there.
    """
    from assets.project import Project
    from pipelines.plan import ground_of
    from wavecore.bench.features import features as measured
    from wavecore.model.build import prompter
    from wavecore.model.settings import TimeLLMSettings

    ground = ground_of(Project.find(), benchmark)
    told = prompter(ground.geometry, TimeLLMSettings())
    settings = ground.settings.features_of(ground.dataset.name, ground.benchmark.window)
    yield from measured(ground.arrays, ground.scaler, told, ground.benchmark.window, settings, repeats=repeats)


@app.command("all")
def everything(
    out: Annotated[Path, typer.Option(help="One JSON object per row, as they come.")] = Path("results/bench.jsonl"),
    peer: Annotated[bool, typer.Option(help="Also against neuralforecast.")] = True,
) -> None:
    """Every bench of generated windows, and `features` where ETTm1 is there, one after another; the machine should
    have nothing else to do. What each stage of the ladder costs is `wavecore bench stages`, what a trained budget costs
    and saves `wavecore bench kept`.
    """
    from wavecore.bench.peer import need_peer

    if peer:
        need_peer()
    target = _placed(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("w", encoding="utf-8") as file:
        for row in _everything(peer):
            file.write(json.dumps(row.plain()) + "\n")
            file.flush()
            typer.echo(line(row))
    part.replace(target)


@app.command("show")
def shown(
    file: Annotated[Path, typer.Argument(help="Of `wavecore bench all`, or of any bench with `--json`.")] = Path(
        "results/bench.jsonl"
    ),
    picture: Annotated[Path | None, typer.Option(help="Also draw the rows of `surface`, as a PNG file.")] = None,
) -> None:
    """The tables of a finished bench, as Markdown."""
    from assets.figures_surface import surface as drawn
    from pipelines.bench_table import markdown, read

    rows = read(_placed(file))
    if picture is not None:
        data = drawn(rows, str(file)).png()
        _placed(picture).parent.mkdir(parents=True, exist_ok=True)
        _placed(picture).write_bytes(data)
    typer.echo(markdown(rows), nl=False)


def _placed(path: Path) -> Path:
    """Counted from the project's root, wherever the command was started."""
    from assets.project import Project

    return path if path.is_absolute() else Project.find().root / path


def _timed(bench: str) -> Callable[..., None]:
    """The commands `train` and `infer`, which differ in what is timed alone."""

    def command(
        backbone: Backbone = "minilm",
        series: Series = "28,112",
        repeats: Repeats = 5,
        threads: Threads = 2,
        tokens: Tokens = SIZE.tokens,
        facts: Facts = SIZE.facts,
        depth: Depth = SIZE.depth,
        peer: Peer = False,
        as_json: Json = False,
    ) -> None:
        from wavecore.bench.speed import speed

        name = known_backbone(backbone)
        size, counts = Size(tokens, facts, depth), numbers(series, "--series")
        show(chain.from_iterable(speed(bench, name, n, repeats, threads, size, peer) for n in counts), as_json)

    return command


app.command("train", help="A training step: forward, backward, Adam.")(_timed("train"))
app.command("infer", help="Forecasts of a batch, prompts included.")(_timed("infer"))


@app.command()
def memory(
    backbone: Backbone = "minilm",
    series: Series = "28",
    threads: Threads = 2,
    tokens: Tokens = SIZE.tokens,
    facts: Facts = SIZE.facts,
    depth: Depth = SIZE.depth,
    gib: Annotated[
        float, typer.Option(help="Also the longest window and the largest batch within so many GiB; 0: not.")
    ] = 0.0,
    stage: Also = None,
    as_json: Json = False,
) -> None:
    """Peak memory of training and forecasting, a process each, and what a step keeps for its backward pass.

    Further stages are measured with --gib alone; `wavecore bench stages` has their peaks.
    """
    from wavecore.bench.limits import limits
    from wavecore.bench.memory import backward
    from wavecore.bench.memory import memory as peaks

    name, also = known_backbone(backbone), further(stage)
    if also and gib <= 0:
        raise SettingsError("--stage: without --gib there is nothing to measure of it", "`wavecore bench stages`")
    size, found = Size(tokens, facts, depth), []
    for count in numbers(series, "--series"):
        found += [peaks(name, count, threads=threads, size=size), backward(name, count, threads=threads)]
    if gib > 0:
        found.append(limits(name, gib, threads=threads, size=size, also=also))
    show(chain.from_iterable(found), as_json)


@app.command()
def scale(
    backbone: Backbone = "minilm",
    windows: Annotated[str, typer.Option(help="Lengths T, with commas.")] = "512,1024,1536,2048,3072",
    repeats: Repeats = 5,
    threads: Threads = 2,
    tokens: Tokens = SIZE.tokens,
    facts: Facts = SIZE.facts,
    depth: Depth = SIZE.depth,
    as_json: Json = False,
) -> None:
    """Seconds, memory and operations of a forecast as the window grows, with fitted exponents."""
    from wavecore.bench.scale import scale as measured

    lengths = numbers(windows, "--windows")
    show(
        measured(known_backbone(backbone), lengths, repeats=repeats, threads=threads, size=Size(tokens, facts, depth)),
        as_json,
    )


@app.command()
def latency(
    backbone: Backbone = "minilm",
    repeats: Annotated[int, typer.Option(help="Windows that are timed.", min=1)] = 100,
    threads: Annotated[str, typer.Option(help="Numbers of CPU threads, with commas.")] = "2,1",
    window: Annotated[int, typer.Option(help="T.", min=64)] = 512,
    stage: Also = None,
    tokens: Tokens = SIZE.tokens,
    facts: Facts = SIZE.facts,
    depth: Depth = SIZE.depth,
    as_json: Json = False,
) -> None:
    """One window at a time: median and 95th percentile."""
    from wavecore.bench.latency import latency as measured

    size, counts = Size(tokens, facts, depth), numbers(threads, "--threads")
    show(measured(known_backbone(backbone), repeats, counts, size, window, also=further(stage)), as_json)


@app.command("online")
def streams(
    repeats: Annotated[int, typer.Option(help="Blocks of four rows that are timed.", min=8)] = 75,
    threads: Annotated[str, typer.Option(help="Numbers of CPU threads, with commas.")] = "2,1",
    epochs: Annotated[int, typer.Option(help="Of training steps whose time is watched.", min=3)] = 30,
    as_json: Json = False,
) -> None:
    """What a row of a stream costs each learner, against a plain forecast; whether training steps grow longer."""
    from wavecore.bench.online import online

    show(online(repeats, numbers(threads, "--threads"), epochs=epochs), as_json)


@app.command()
def rates(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    stage: Annotated[str, typer.Option("--stage", "-s", help="A trained stage with weights that learn.")] = "dlinear",
    learners: Annotated[str, typer.Option(help="With commas.")] = "frozen,online,replay,elf",
    tried: Annotated[str, typer.Option("--rates", help="Of learning, with commas.")] = RATES,
    seed: Annotated[int, typer.Option(help="Of the model.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Error of a stream at each rate of learning, in hindsight: what choosing it better could be worth at most."""
    from assets.project import Project
    from assets.streaming import settings_of
    from pipelines.premises import loaded
    from wavecore.bench.rates import rates as measured

    ground, found = loaded(Project.find(), benchmark, stage, seed)
    names = tuple(part.strip() for part in learners.split(","))
    online = replace(settings_of(ground, stage), learners=names)
    made = measured(
        found.model, ground.windows, ground.scene, online, seed, fractions(tried, "--rates"),
        tell=lambda line: typer.echo(f"· {benchmark} {stage}: {line}", err=True),
    )  # fmt: skip
    of = {"benchmark": benchmark, "stage": stage, "seed": seed}
    show((replace(row, more={**of, **row.more}) for row in made), as_json)


@app.command("variants")
def ablations(
    stage: Annotated[
        str | None, typer.Option("--stage", "-s", help="Of Titan-Stream, with commas; default: all its variants.")
    ] = None,
    repeats: Repeats = 15,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """What each variant of Titan-Stream costs beside `titan`: a row of a stream, a training step, memory."""
    from assets.project import Project
    from wavecore import stages as ladder
    from wavecore.bench.variants import BELOW, variants

    every = tuple(one.name for one in ladder.STAGES if one.root == BELOW)
    chosen = tuple(part.strip() for part in stage.split(",")) if stage else every
    settings = Project.find().settings()
    shared = settings.stages[BELOW].model
    show(variants(chosen, repeats=repeats, threads=threads, model=shared, online=settings.online), as_json)


@app.command("stages")
def costs(
    stage: Annotated[
        str | None, typer.Option("--stage", "-s", help="Of the Time-LLM family, with commas; default: pipeline.ladder.")
    ] = None,
    backbone: Backbone = "minilm",
    windows: Annotated[str, typer.Option(help="Lengths T, with commas.")] = "512",
    shares: Annotated[
        str | None, typer.Option(help="Of the tokens that `sparse` and `only_sparse` keep, with commas.")
    ] = None,
    series: Annotated[int, typer.Option(help="Windows × channels at once.", min=1)] = 28,
    repeats: Repeats = 5,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """What each stage costs beside `base`: time, memory, tokens and weights, in training and forecasting."""
    from wavecore.bench.stages import stages as measured

    chosen = tuple(part.strip() for part in stage.split(",")) if stage else _ladder()
    kept = fractions(shares, "--shares") if shares else ()
    lengths = numbers(windows, "--windows")
    show(measured(chosen, known_backbone(backbone), lengths, kept, series, repeats, threads), as_json)


@app.command()
def surface(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="Whose series; it must be there.")],
    windows: Annotated[str, typer.Option(help="Lengths T, with commas.")] = "1024,2048,3072",
    shares: Annotated[str, typer.Option(help="Of the tokens that are kept, with commas.")] = "0.125,0.25,0.5",
    stage: Annotated[str, typer.Option("--stage", "-s", help="One that keeps a share of the tokens.")] = "only_sparse",
    steps: Annotated[int | None, typer.Option(help="Of training; default: as params.yaml has it.", min=2)] = None,
    test_windows: Annotated[int, typer.Option(help="Forecast, spread evenly over the test split.", min=1)] = 240,
    seed: Annotated[int, typer.Option(help="Of all trainings.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Error, time and memory over kept tokens and T: each is trained here and now, beside `base` at the same T."""
    from assets.project import Project
    from pipelines.plan import ground_of
    from wavecore.bench.surface import surface as measured

    lengths, kept = numbers(windows, "--windows"), fractions(shares, "--shares")
    ground = ground_of(Project.find(), benchmark)
    show(
        measured(
            *(ground.arrays, ground.scaler, ground.borders, ground.geometry, ground.settings, benchmark),
            *(lengths, kept, stage, steps, test_windows, seed),
            tell=lambda line: typer.echo(f"· {line}", err=True),
        ),
        as_json,
    )


@app.command()
def features(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="Whose series; it must be there.")] = "ettm1_96",
    repeats: Repeats = 3,
    gigabytes: Annotated[float, typer.Option(help="Size of a generated series that is streamed; 0: not.", min=0)] = 1.0,
    as_json: Json = False,
) -> None:
    """Statistics and coefficients of all windows in one pass, against a loop of pywt over the windows."""
    from wavecore.bench.stream import streamed

    show(chain(_features(benchmark, repeats), streamed(gigabytes) if gigabytes else ()), as_json)


@app.command()
def kept(
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="A benchmark.")],
    stage: Annotated[str, typer.Option("--stage", "-s", help="A trained stage with a token budget.")] = "budget",
    against: Annotated[str, typer.Option(help="A trained stage without one; empty: everything read.")] = "base",
    seed: Annotated[int, typer.Option(help="Of both models.", min=0)] = 0,
    windows: Annotated[int, typer.Option(help="Of the test split, spread evenly over it.", min=1)] = 128,
    threads: Threads = 2,
    picture: Annotated[Path | None, typer.Option(help="Also draw it, as a PNG file.")] = None,
    as_json: Json = False,
) -> None:
    """Test error and time of a trained budget at each of its sizes: what fewer tokens cost and save."""
    from assets.figures_budget import kept_curve
    from assets.project import Project
    from pipelines.premises import loaded
    from wavecore.bench.kept import kept as measured

    ground, found = loaded(Project.find(), benchmark, stage, seed)
    other = loaded(Project.find(), benchmark, against, seed)[1].model if against else None
    dtype = found.manifest["dtype"]
    backbone = found.model.settings.backbone if hasattr(found.model, "settings") else ""
    of = {"benchmark": benchmark, "stage": stage, "against": against, "seed": seed}
    batch = ground.settings.judge.batch_windows
    made = measured(found.model, ground.windows, ground.borders, dtype, windows, batch, threads, other, backbone)
    rows: list[dict[str, Any]] = []

    def told() -> Iterator[Row]:
        for row in made:
            rows.append((whole := replace(row, more={**row.more, **of})).plain())
            yield whole

    show(told(), as_json)
    if picture is not None:
        target = _placed(picture)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(kept_curve(rows, f"{benchmark}, {stage}, seed {seed}").png())


@app.command()
def wavelet(repeats: Repeats = 20, as_json: Json = False) -> None:
    """The wavelet transform of a batch, against one transform per series."""
    from wavecore.bench.features import wavelet as measured

    show(measured(repeats=repeats), as_json)
