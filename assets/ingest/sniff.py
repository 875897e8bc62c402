"""Understand a stranger's file: what `wavecore add FILE` can see by itself, said in plain sentences."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from assets.ingest import zones
from assets.ingest.declare import Written, write_yaml
from assets.ingest.faults import listed
from assets.ingest.guess import dialect, find_time
from assets.ingest.layout import columns
from assets.ingest.read import load_cells, read_raw
from assets.ingest.sentinels import suspicious
from assets.ingest.sizes import levels_of, sizes
from assets.ingest.treat import Treated, treat
from data_contracts.catalog import Dataset, Format, Licence, OwnSource, Treatment
from data_contracts.dataset import reads_otherwise
from data_contracts.durations import DAY, Step, step_text
from wavecore.errors import DataError

# Where timestamps jitter, the step is the nearest of these (seconds).
_ROUND = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 14400, 21600, 43200, 86400)
_DEFAULT_LEVELS = 4


@dataclass(frozen=True)
class Understanding:
    """What was seen in a file and is proposed for it.

    Attributes:
        path: the file.
        name: proposed for dataset and benchmark; may be unusable, `write_yaml` checks.
        dataset: the declaration that reads it; `source.path` is `path`.
        window, horizon: of the proposed benchmark, in steps.
        levels: how many wavelet levels the window holds, if fewer than the default 4; else None.
        treated: what the declared treatment does to it.
        sentences: all that was understood and chosen, for people.
    """

    path: Path
    name: str
    dataset: Dataset
    window: int
    horizon: int
    levels: int | None
    treated: Treated
    sentences: tuple[str, ...]


def suggested_name(path: Path) -> str:
    """A name from a file's name: `Strom Süd.csv` gives `strom_sued`, `2024.csv` `series_2024`; empty where nothing
    usable is in it."""
    text = path.name.split(".")[0].lower()
    for letter, plain in (("ä", "ae"), ("ö", "oe"), ("ü", "ue"), ("ß", "ss")):
        text = text.replace(letter, plain)
    name = re.sub(r"[^a-z0-9]+", "_", text).strip("_")[:40].strip("_")
    return f"series_{name}" if reads_otherwise(name) else name


def understand(
    path: Path,
    timezone: str | None = None,
    window: int | None = None,
    horizon: int | None = None,
    missing: tuple[str, ...] = (),
    name: str | None = None,
) -> Understanding:
    """Look at a CSV or Parquet file and propose how to read, treat and split it.

    Args:
        path: the file.
        timezone: the zone of its clock (`--timezone`), where the file does not tell.
        window, horizon: steps; None: chosen to fit the length.
        missing: texts in number columns that stand for a missing value, beside the customary ones.
        name: of dataset and benchmark; None: from the file's name.

    Raises:
        DataError: something that cannot be settled by a declaration, or a local clock whose zone the file does not
            tell.
        SettingsError: `timezone` is none; window and horizon do not fit.
    """
    name = name or suggested_name(path)
    if not path.is_file():
        raise DataError(f"there is no file {path}", "correct the path")
    cut = dialect(path)
    said: list[str] = []
    form = Format(
        kind="parquet" if cut.kind == "parquet" else "csv", encoding=cut.encoding, separator=cut.separator,
        skip_lines=cut.skip_lines,
    )  # fmt: skip
    cells = load_cells(path, form)
    time = find_time(cells)
    said += time.said
    form, more = columns(cells, time, form, missing)
    said += more
    zone, more = zones.choose(cells, time, form, timezone)
    said += more
    base = Dataset(
        name=name, title=path.stem, description="", source=OwnSource("own", str(path)), step=zones.rough_step(time),
        season=1, licence=Licence("the owner's own data"), splits={"standard": {"validation": 0.15, "test": 0.15}},
        format=dataclasses.replace(form, timezone=zone), constant_channels="keep",
        treatment=Treatment(irregular="resample", missing="mask", sentinels=(float("inf"), float("-inf"))),
    )  # fmt: skip
    base, frame, more = _read(path, base)
    said += more
    base, more = _without_constants(frame, base)
    said += more
    frame = frame.filter(pl.col("channel").cast(pl.String).is_in(list(base.format.channels or ())))
    sentinels, more = _sentinels(frame)
    said += more
    step, regular, more = _step(frame, base)
    said += more
    treatment = Treatment("reject" if regular else "resample", "mask", sentinels)
    base = dataclasses.replace(base, step=step_text(step), treatment=treatment)
    _, treated = treat(read_raw(path, base), base)
    said += _holes(frame, treated)
    if not treated.missing:
        base = dataclasses.replace(base, treatment=dataclasses.replace(treatment, missing="reject"))
    size = sizes(treated.steps, step, path.name, window, horizon)
    levels = levels_of(size.window)
    said.append(
        f"season {size.season}, window {size.window}, horizon {size.horizon} (in steps); the last {size.duration} are "
        f"the test, the {size.duration} before are validation"
    )
    if levels < _DEFAULT_LEVELS:
        said.append(
            f"a window of {size.window} steps holds {_count(levels, 'wavelet level')}: "
            f"overrides.datasets.{name}.features.levels: {levels} belongs in params.yaml"
        )
    channels = base.format.channels or ()
    dataset = dataclasses.replace(
        base,
        description=f"Values of {listed(channels, 12)}, one every {step_text(step)}.",
        season=size.season,
        splits={"standard": {"validation": size.duration, "test": size.duration}},
        constant_channels="keep" if treated.constant else "reject",
    )
    series = (
        f"{treated.steps} steps of {step_text(step)} from {treated.first} to {treated.last}{' (UTC)' if zone else ''}, "
        f"time in {listed(map(repr, form.time_columns))}, {_count(len(channels), 'channel')}: {listed(channels, 10)}"
    )
    return Understanding(
        path, name, dataset, size.window, size.horizon, levels if levels < _DEFAULT_LEVELS else None, treated,
        (*cut.said, series, *said),
    )  # fmt: skip


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _read(path: Path, dataset: Dataset) -> tuple[Dataset, pl.DataFrame, list[str]]:
    """Read leniently; where an hour of a local clock cannot be told, take it for summer time.

    Raises:
        DataError: with a fix that needs no YAML, since there is none yet.
    """
    try:
        return dataset, read_raw(path, dataset), []
    except DataError as error:
        if "format.ambiguous" in error.fix:
            dataset = dataclasses.replace(dataset, format=dataclasses.replace(dataset.format, ambiguous="earliest"))
            rows = listed(error.rows)
            said = f"an hour that the clock shows twice stands there once or out of order (at {rows}): it is taken for "
            return dataset, read_raw(path, dataset), [said + "summer time (format.ambiguous: earliest)"]
        fix = error.fix
        if "missing_marks" in fix:
            fix = "correct the cells and run again; if the text stands for a missing value, add `--missing TEXT`"
        elif "Etc/GMT-1" in fix:
            fix = "correct the rows; if the clock is never changed: `--timezone Etc/GMT-1` (it means UTC+1)"
        elif "data_contracts/" in fix:
            fix = "correct the file and run again"
        raise DataError(error.problem, fix, error.columns, error.rows) from None


def _without_constants(frame: pl.DataFrame, dataset: Dataset) -> tuple[Dataset, list[str]]:
    """Channels that never change are left out: they would only flatter the errors."""
    value = pl.col("value")
    finite = frame.filter(value.is_finite()).group_by("channel", maintain_order=True)
    spans = finite.agg(value.min().alias("low"), value.max().alias("high"))
    constant = spans.filter(pl.col("low") == pl.col("high"))["channel"].cast(pl.String).to_list()
    if not constant:
        return dataset, []
    channels = tuple(c for c in dataset.format.channels or () if c not in constant)
    if not channels:
        raise DataError(
            f"{dataset.file}: every channel is constant: {listed(map(repr, constant))}",
            "give a file whose values change",
            columns=constant,
        )
    if dataset.format.layout == "long":
        return dataset, [f"{listed(map(repr, constant))} never changes; it is kept (constant_channels: keep)"]
    form = dataclasses.replace(dataset.format, channels=channels, ignore=(*dataset.format.ignore, *constant))
    return dataclasses.replace(dataset, format=form), [f"left out: {listed(map(repr, constant))} (constant)"]


def _sentinels(frame: pl.DataFrame) -> tuple[tuple[float, ...], list[str]]:
    """What stands for a missing value in some channel."""
    found: dict[float, list[str]] = {}
    said = []
    for (channel,), part in frame.group_by(["channel"], maintain_order=True):
        values = part["value"].fill_null(float("nan")).to_numpy()
        suspects: list[tuple[float, int]] = suspicious(values)
        suspects += [(v, int((values == v).sum())) for v in (float("inf"), float("-inf")) if (values == v).any()]
        for value, count in suspects:
            found.setdefault(value, []).append(str(channel))
            times = "once" if count == 1 else f"{count} times"
            said.append(
                f"{value:g} stands {times} in {str(channel)!r}: taken for a missing value (treatment.sentinels; "
                "if it is real: treatment.sentinels_allowed)"
            )
    return tuple(found), said


def _step(frame: pl.DataFrame, dataset: Dataset) -> tuple[Step, bool, list[str]]:
    """The step, whether every row lies on its grid once and in order, and what is said of it."""
    unique = np.unique(frame["timestamp"].to_numpy().astype("datetime64[us]"))
    if len(unique) < 3:
        raise DataError(f"{dataset.file}: {len(unique)} different times are no series", "give a longer series")
    ordered, disorder = _order(frame)
    lengths = np.diff(unique).astype(np.int64)
    for months in (1, 3, 6, 12):
        step = Step(0, months)
        if np.median(lengths) >= 27 * DAY * months and step.positions(unique)[1].all():
            return step, ordered, disorder
    kinds, counts = np.unique(lengths, return_counts=True)
    usual = Step(int(kinds[counts.argmax()]))
    off = ~usual.positions(unique)[1]
    if not off.any():
        return usual, ordered, disorder
    middle = float(np.median(lengths))
    near = min(_ROUND, key=lambda seconds: abs(np.log(seconds * 1e6 / middle)))
    step = usual if counts.max() > 0.5 * len(lengths) else Step(near * 1_000_000)
    first = frame.filter(pl.col("timestamp") == unique[int(np.argmax(off))])["row"][0]
    unit = "row" if dataset.format.kind == "parquet" else "line"
    return (
        step,
        False,
        [
            *disorder,
            f"rows are not regular (first in {unit} {first}): each step of {step_text(step)} takes the mean of the "
            "values since the step before (treatment.irregular: resample)",
        ],
    )


def _order(frame: pl.DataFrame) -> tuple[bool, list[str]]:
    """Whether times rise within each channel, and what is said where they do not."""
    stamps, codes = frame["timestamp"].to_numpy().astype(np.int64), frame["channel"].to_physical().to_numpy()
    back = np.flatnonzero((np.diff(stamps) < 0) & (codes[1:] == codes[:-1])) + 1
    back = back[codes[back] == codes[back[0]]] if len(back) else back
    doubles = frame.height - frame.select("timestamp", "channel").n_unique()
    said = []
    if doubles:
        said.append(
            f"{_count(doubles, 'value')} at a time that another row has, too: averaged (treatment.irregular: resample)"
        )
    if len(back):
        said.append(
            f"the time goes back {_count(len(back), 'time')} (first at row {frame['row'][int(back[0])]} of the file): "
            "rows are sorted (treatment.irregular: resample)"
        )
    return not said, said


def _holes(frame: pl.DataFrame, treated: Treated) -> list[str]:
    """What is said of missing steps and values."""
    said = []
    if treated.steps_inserted:
        unique = np.unique(frame["timestamp"].to_numpy().astype("datetime64[us]"))
        at = int(np.diff(unique).argmax())
        said.append(
            f"no row for {_count(treated.steps_inserted, 'step')} (the longest gap from {unique[at].item()} to "
            f"{unique[at + 1].item()}): missing values (treatment.missing: mask)"
        )
    blank = frame.filter(pl.col("value").is_null()).group_by("channel", maintain_order=True).len()
    if blank.height:
        names = [f"{channel} ({count})" for channel, count in blank.iter_rows()]
        said.append(f"missing values in {listed(names, 10)} (treatment.missing: mask)")
    return said


__all__ = ["Understanding", "Written", "suggested_name", "understand", "write_yaml"]
