"""A dataset as declared: where its file comes from, how it is read, treated and split, and on what terms."""

from __future__ import annotations

import codecs
import difflib
import re
import zoneinfo
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data_contracts.durations import Step, parse_step
from wavecore.errors import SettingsError

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")
# What YAML reads as a number or a truth, by its old rules (params.yaml) or its new ones (DVC).
_NO_TEXT = re.compile(r"[0-9][0-9_]*(e[0-9]+)?|0[box][0-9a-f_]+|y|n|yes|no|on|off|true|false|null")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
MISSING_MARKS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")


def reads_otherwise(name: str) -> bool:
    """Whether YAML reads this name as a number or a truth, not as text."""
    return _NO_TEXT.fullmatch(name) is not None


def check_name(name: str, what: str) -> str:
    """Give back `name` if it may stand in a path, a partition key and a query; `what` says whose name it is.

    Raises:
        SettingsError: it may not: capitals, blanks, quotes, dots, slashes, over 64 characters, or a number to YAML.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 64:
        raise SettingsError(
            f"{what}: {name!r} is no usable name",
            "use small letters, digits and _ only, starting with a letter or digit, at most 64 characters",
        )
    if reads_otherwise(name):
        raise SettingsError(
            f"{what}: {name!r} is no usable name: YAML reads it as a number or as yes or no",
            f"put a letter before it, as in 's{name}'",
        )
    return name


@dataclass(frozen=True)
class PublishedSource:
    """A file that others published.

    Attributes:
        kind: `published`.
        path: where it lies below `$WAVECORE_DATA`.
        url: where it is downloaded from, pinned to a commit: the file, or the zip archive that holds it.
        sha256: of the file.
        member: its name inside the archive; None if `url` is the file itself.
        archive_sha256: of the archive; needed where `member` is given.
    """

    kind: Literal["published"]
    path: str
    url: str
    sha256: str
    member: str | None = None
    archive_sha256: str | None = None

    def __post_init__(self) -> None:
        parts = self.path.split("/")
        if self.path.startswith("/") or ".." in parts or "\\" in self.path or not parts[-1]:
            raise ValueError(f"path: {self.path!r} must be a relative path without ..")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError("sha256: 64 hexadecimal digits in small letters are needed")
        if (self.member is None) != (self.archive_sha256 is None):
            raise ValueError("member and archive_sha256 belong together: give both or none")
        if self.archive_sha256 is not None and not _SHA256.fullmatch(self.archive_sha256):
            raise ValueError("archive_sha256: 64 hexadecimal digits in small letters are needed")

    @property
    def file(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class GeneratedSource:
    """A series made by this program, always the same for the same values here.

    Attributes:
        kind: `generated`.
        generator: which one; see assets/ingest/generate.py.
        seed, rows, channels, start: what it is told; `start` is the first timestamp.
    """

    kind: Literal["generated"]
    generator: Literal["load_grid"]
    seed: int
    rows: int
    channels: int = 4
    start: str = "2023-01-02 00:00:00"

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError("seed: must be 0 or more")
        if self.rows < 1:
            raise ValueError("rows: must be 1 or more")
        if not 1 <= self.channels <= 4:
            raise ValueError("channels: from 1 to 4")


@dataclass(frozen=True)
class OwnSource:
    """A user's own file.

    Attributes:
        kind: `own`.
        path: absolute, or relative to the project's root.
    """

    kind: Literal["own"]
    path: str

    @property
    def file(self) -> str:
        return Path(self.path).name


Source = PublishedSource | GeneratedSource | OwnSource
SOURCES: dict[str, type] = {"published": PublishedSource, "generated": GeneratedSource, "own": OwnSource}


@dataclass(frozen=True)
class Format:
    """How a file is to be read.

    Attributes:
        layout: `wide` (a column per channel) or `long` (a row per channel and time).
        kind: `csv` (any separator) or `parquet`.
        time: the column of the timestamps; a list of columns is joined by blanks.
        time_format: as in strftime, or `epoch_s`, `epoch_ms`; None: ISO 8601.
        channels: the channels and their order; None: every column that is neither time nor ignored.
        ignore: columns that are no channels.
        separator, decimal, thousands, encoding: of a CSV file; `thousands` None: numbers hold no such marks.
        timezone: an IANA name, if the clock is a local one: times become UTC. Series of whole days keep their dates.
        ambiguous: which pass is meant of the hour that a local clock shows twice: told by `order` in the file, or
            always the `earliest` or the `latest`.
        id, value: the columns of channel and value in the long form.
        missing_marks: cells that stand for "no value", beside the empty one, NA, N/A, NaN, null and None.
        skip_lines: lines above the header.
    """

    layout: Literal["wide", "long"] = "wide"
    kind: Literal["csv", "parquet"] = "csv"
    time: str | tuple[str, ...] = "date"
    time_format: str | None = None
    channels: tuple[str, ...] | None = None
    ignore: tuple[str, ...] = ()
    separator: str = ","
    decimal: Literal[".", ","] = "."
    thousands: Literal[".", ",", " ", "'"] | None = None
    encoding: str = "utf-8"
    timezone: str | None = None
    ambiguous: Literal["order", "earliest", "latest"] = "order"
    id: str = "unique_id"
    value: str = "y"
    missing_marks: tuple[str, ...] = ()
    skip_lines: int = 0

    def __post_init__(self) -> None:
        if len(self.separator) != 1 or self.separator in '\r\n"':
            raise ValueError(f"separator: {self.separator!r} must be one character")
        if self.separator == self.decimal and self.kind == "csv":
            raise ValueError(f"separator and decimal are both {self.decimal!r}")
        if self.thousands == self.decimal or (self.thousands == self.separator and self.kind == "csv"):
            raise ValueError(f"thousands: {self.thousands!r} is also the decimal mark or the separator")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ValueError(
                f"encoding: there is no {self.encoding!r}; usual ones: utf-8, cp1252, latin-1, utf-16"
            ) from None
        if self.timezone is not None:
            try:
                zoneinfo.ZoneInfo(self.timezone)
            except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
                raise ValueError(
                    f"timezone: there is no {self.timezone!r}; write an IANA name such as Europe/Berlin or UTC"
                ) from None
        if self.skip_lines < 0:
            raise ValueError("skip_lines: must be 0 or more")
        if not self.time_columns:
            raise ValueError("time: at least one column is needed")
        if self.channels is not None:
            twice = sorted({c for c in self.channels if self.channels.count(c) > 1})
            if twice or not self.channels:
                raise ValueError(f"channels: {twice[0]!r} stands there twice" if twice else "channels: none is named")
            both = sorted(set(self.channels) & {*self.time_columns, *self.ignore})
            if both:
                raise ValueError(f"channels: {both[0]!r} is also the time column or ignored")

    @property
    def time_columns(self) -> tuple[str, ...]:
        return (self.time,) if isinstance(self.time, str) else self.time


@dataclass(frozen=True)
class Treatment:
    """What is done with what a regular, complete series would not have. Nothing is done that is not declared.

    Attributes:
        irregular: `reject`, or `resample`: the mean of each step's bin, labelled by the bin's end.
        missing: `reject`, or `mask`: absent steps and values become explicit nulls.
        sentinels: numbers that stand for "no value"; they become nulls, so `missing: mask` is needed beside them.
        sentinels_allowed: numbers that look like sentinels and are real values.
    """

    irregular: Literal["reject", "resample"] = "reject"
    missing: Literal["reject", "mask"] = "reject"
    sentinels: tuple[float, ...] = ()
    sentinels_allowed: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.sentinels and self.missing == "reject":
            raise ValueError("sentinels become missing values: declare missing: mask beside them")
        both = sorted(set(self.sentinels) & set(self.sentinels_allowed))
        if both:
            raise ValueError(f"sentinels_allowed: {both[0]:g} is also declared under sentinels")


@dataclass(frozen=True)
class Licence:
    """On what terms the data may be used.

    Attributes:
        name, url: the licence.
        public_remote: whether the data may be pushed to a storage that anyone can read.
        note: what else a user should know.
    """

    name: str
    url: str | None = None
    public_remote: Literal["ok", "forbidden", "unknown"] = "unknown"
    note: str = ""


@dataclass(frozen=True)
class Dataset:
    """One series of one or more channels, and how it becomes regular.

    Attributes:
        name: the YAML file's name.
        title, description: for people.
        prompt: what a language model is told the data is, in few words, since every window's prompt begins with it;
            None: the description.
        source, format, treatment, licence: see there.
        step: time between two rows: 15m, 1h, 7d, 1mo …
        season: steps of the main cycle.
        constant_channels: `reject` or `keep` a channel whose value never changes.
        as_of: the last timestamp that may be known (in the series' own time, UTC where a zone is declared); None: all.
        splits: named borders: rows from the start, or durations, rows or shares from the end.
        segments: known stretches (holidays, outages): name → first and last timestamp, in the series' own time
            (UTC where a zone is declared); what falls into them is also judged apart. A model is told nothing of them.
    """

    name: str
    title: str
    description: str
    source: Source
    step: str
    season: int
    licence: Licence
    splits: dict[str, dict[str, Any]]
    format: Format = field(default_factory=Format)
    treatment: Treatment = field(default_factory=Treatment)
    constant_channels: Literal["reject", "keep"] = "reject"
    as_of: str | None = None
    prompt: str | None = None
    segments: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_duration(self.step, "step")
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("prompt: is empty; leave the line out to take the description")
        if self.season < 1:
            raise ValueError("season: must be 1 or more")
        if not self.splits:
            raise ValueError("splits: at least one named split is needed, such as standard: {validation: 4w, test: 4w}")
        for name, spec in self.splits.items():
            _check_split(name, spec)
        for name, ends in self.segments.items():
            _check_segment(name, ends)
        if self.as_of is not None:
            _timestamp(self.as_of, "as_of")

    @property
    def file(self) -> str:
        """The raw file's name."""
        return f"{self.name}.csv" if isinstance(self.source, GeneratedSource) else self.source.file

    @property
    def told(self) -> str:
        """What a language model is told the data is."""
        return self.prompt or self.description

    @property
    def segment_times(self) -> dict[str, tuple[np.datetime64, np.datetime64]]:
        """Name → first and last moment of each segment, both included."""
        return {
            name: (np.datetime64(first, "us"), np.datetime64(last, "us"))
            for name, (first, last) in self.segments.items()
        }

    @property
    def parsed_step(self) -> Step:
        return parse_step(self.step, f"{self.name}.step")


def _timestamp(text: str, where: str) -> np.datetime64:
    # numpy would also take "now", and drop the offset of a zone.
    if not _MOMENT.fullmatch(text):
        raise ValueError(f"{where}: {text!r} is no timestamp; write 2024-05-31 23:00:00")
    try:
        return np.datetime64(text, "us")
    except ValueError:
        raise ValueError(f"{where}: there is no such moment as {text!r}") from None


def _check_segment(name: str, ends: tuple[str, ...]) -> None:
    if not name.strip() or not name.isprintable():
        raise ValueError(f"segments: {name!r} is no usable name; write a few words")
    if len(ends) != 2:
        raise ValueError(f'segments.{name}: write its first and last timestamp, ["2024-12-24", "2024-12-26 12:00:00"]')
    first, last = (_timestamp(end, f"segments.{name}") for end in ends)
    if last < first:
        raise ValueError(f"segments.{name}: ends ({ends[1]}) before it begins ({ends[0]})")


def _check_duration(text: str, where: str) -> None:
    try:
        parse_step(text, where)
    except SettingsError as error:
        # As a ValueError it gets the file's name in front, where the dataclass is built.
        raise ValueError(f"{error.problem}; {error.fix}") from None


def _check_split(name: str, spec: Mapping[str, Any]) -> None:
    if not _NAME.fullmatch(name):
        raise ValueError(f"splits: {name!r} is no usable name: small letters, digits and _ only")
    known = ("train", "validation", "test")
    for key, value in spec.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            raise ValueError(f"splits.{name}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else ""))
        where = f"splits.{name}.{key}"
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(f"{where}: {value!r} is neither rows, a share nor a duration")
        if isinstance(value, str):
            _check_duration(value, where)
        elif isinstance(value, float) and not 0 < value < 1:
            raise ValueError(f"{where}: a share lies between 0 and 1, {value} does not; rows are whole numbers")
        elif isinstance(value, int) and value < 1:
            raise ValueError(f"{where}: {value} rows; at least 1 is needed")
    for key in ("validation", "test"):
        if key not in spec:
            raise ValueError(f"splits.{name}: the key {key!r} is missing")
