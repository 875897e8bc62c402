"""`wavecore doctor`: what is missing on this machine and how to mend it, and what a licence asks before a push."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from assets.project import Project
from wavecore.errors import WavecoreError


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    Attributes:
        level: `ok`, `note` or `missing` (something will not work).
        what: what was looked at, and what was seen.
        fix: what to do; empty where nothing is needed.
    """

    level: str
    what: str
    fix: str = ""


def examine(project: Project) -> Iterator[Finding]:
    """Look at everything, one finding after the other; raises nothing of its own."""
    for look in (_python, _tools, _pins, _settings, _compute, _backbones, _disk, _data, _remote):
        try:
            yield from look(project)
        except WavecoreError as error:
            yield Finding("missing", error.problem, error.fix)


def _python(project: Project) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        yield Finding("missing", f"Python {version}", "use Python 3.11, 3.12 or 3.13: make PYTHON=python3.12 test")
    else:
        yield Finding("ok", f"Python {version}")


def _tools(project: Project) -> Iterator[Finding]:
    if shutil.which("git") is None:
        yield Finding("missing", "git is not installed: DVC needs it", "install git")
    elif not (project.root / ".git").exists():
        yield Finding(
            "missing",
            f"{project.root} is no git repository: DVC needs one",
            "clone the project instead of unpacking it",
        )
    else:
        yield Finding("ok", "git")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        yield Finding(
            "note", "no Chromium: only the browser test needs it", "apt-get install chromium, before `make test-slow`"
        )


def _pins(project: Project) -> Iterator[Finding]:
    wrong = []
    for line in (project.root / "constraints.txt").read_text().splitlines():
        name, _, pinned = line.partition("==")
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if found.split("+")[0] != pinned:
            wrong.append(f"{name} {found} (pinned: {pinned})")
    if wrong:
        yield Finding(
            "note", f"other versions than the tests ran with: {', '.join(wrong)}", "rm -rf .venv && make test"
        )
    else:
        yield Finding("ok", "every installed package has its pinned version")


def _settings(project: Project) -> Iterator[Finding]:
    pipeline = project.settings().pipeline
    yield Finding("ok", f"params.yaml: {', '.join(pipeline.benchmarks)} × {', '.join(pipeline.stages)}")


def _compute(project: Project) -> Iterator[Finding]:
    import torch

    place = f"CUDA, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "CPU"
    yield Finding("ok", f"torch {torch.__version__} on {place}, {os.cpu_count()} cores")


def _backbones(project: Project) -> Iterator[Finding]:
    """The language models that the default matrix names; nothing is downloaded."""
    from wavecore import stages
    from wavecore.model import backbone as language
    from wavecore.model.build import language_side, model_settings
    from wavecore.prompt.tokens import tokenizer_of

    settings = project.settings()
    sides = [
        language_side(model_settings(stages.get(stage), settings, benchmark))
        for benchmark in settings.pipeline.benchmarks
        for stage in settings.pipeline.stages
    ]
    for name in dict.fromkeys(side.backbone for side in sides if side is not None):
        try:
            source = language.find(name, fetch=False)
            language.check_weights(source)
            tokenizer_of(source.folder)
            family = language.FAMILIES[source.config.model_type]
            yield Finding("ok", f"language model {name}: {family}, {source.width} wide, {source.vocabulary:,} words")
        except WavecoreError as error:
            yield Finding("missing", error.problem, error.fix)


def _disk(project: Project) -> Iterator[Finding]:
    free = shutil.disk_usage(project.root).free / 2**30
    level = "note" if free < 5 else "ok"
    yield Finding(
        level,
        f"{free:.1f} GiB free at {project.root}",
        "free some space: a large benchmark takes gigabytes" if free < 5 else "",
    )


def _data(project: Project) -> Iterator[Finding]:
    from assets.ingest.fetch import find
    from data_contracts.catalog import OwnSource, PublishedSource

    for dataset in project.catalog().datasets.values():
        source = dataset.source
        stored = (project.raw(dataset.name) / dataset.file).is_file()
        if isinstance(source, PublishedSource) and not stored:
            try:
                found = project.data_dir is not None and find(source, project.data_dir) is not None
            except WavecoreError as error:
                yield Finding("missing", error.problem, error.fix)
                continue
            if not found:
                fix = f"put {source.path} into a folder and set WAVECORE_DATA to it; else it is downloaded when needed"
                yield Finding("note", f"dataset {dataset.name}: {source.file} is not on this machine yet", fix)
        elif isinstance(source, OwnSource) and not (project.root / source.path).is_file():
            fix = "put it back, or correct source.path" + ("; the stored copy serves until then" if stored else "")
            yield Finding("note" if stored else "missing", f"dataset {dataset.name}: no file {source.path}", fix)


def _remote(project: Project) -> Iterator[Finding]:
    config = configparser.ConfigParser()
    config.read([project.root / ".dvc" / "config", project.root / ".dvc" / "config.local"])
    remotes = {
        s.split('"')[1]: config[s].get("url", "") for s in config.sections() if s.strip("'").startswith("remote")
    }
    public = {name: url for name, url in remotes.items() if "://" in url}
    yield Finding("ok", f"DVC remotes: {', '.join(f'{n} ({u})' for n, u in remotes.items()) or 'none'}")
    for dataset in project.catalog().datasets.values():
        here = project.raw(dataset.name).is_dir()
        if not here or dataset.licence.public_remote == "ok":
            continue
        rule = "forbids" if dataset.licence.public_remote == "forbidden" else "may forbid"
        where = f"to {', '.join(public)} " if public else ""
        yield Finding(
            "note",
            f"dataset {dataset.name}: its licence ({dataset.licence.name}) {rule} a push {where}where anyone reads it. "
            f"{dataset.licence.note}",
            "push it only to a private remote: `dvc push` sends every dataset, `dvc push series@NAME` one",
        )
