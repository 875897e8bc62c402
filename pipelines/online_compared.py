"""Tests between streams, kept beside their results in git: a test needs the errors of every row, which are in the store
of the machine that streamed them, and its p can be read on any clone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from assets.project import Project, seed_folder
from assets.storage import read_json, to_json, write_text
from assets.streamed import standing
from wavecore.judge.files import MANIFEST, RESULTS

COMPARED = "compared.json"


class Pair(NamedTuple):
    """Two learners of one benchmark's stream."""

    stage: str
    learner: str
    other_stage: str
    other_learner: str


class Tested(NamedTuple):
    """How far one lies from the other.

    Attributes:
        percent: difference of the mean losses, of the other's.
        p: of Diebold and Mariano, two-sided; None where the data are too short for a test.
    """

    percent: float
    p: float | None


def file_of(project: Project, benchmark: str) -> Path:
    """results/online/<benchmark>/compared.json."""
    return project.online_results(benchmark, "dlinear").parent / COMPARED


def compared(project: Project, benchmark: str) -> dict[Pair, Tested]:
    """What was tested of the streams that are in results/ now; a test of other streams is not told."""
    path = file_of(project, benchmark)
    rows = read_json(path) if path.is_file() else []
    present: dict[str, dict[str, str]] = {}
    found = {}
    for row in rows:
        pair = Pair(row["stage"], row["learner"], row["other_stage"], row["other_learner"])
        for stage in (pair.stage, pair.other_stage):
            if stage not in present:
                present[stage] = _hashes(project, benchmark, stage)
        if (row["results"], row["other_results"]) == (present[pair.stage], present[pair.other_stage]):
            found[pair] = Tested(row["percent"], row["p"])
    return found


def keep(project: Project, benchmark: str, tested: Mapping[Pair, Tested]) -> None:
    """Write what was tested; what was before of the same streams stays."""
    before = compared(project, benchmark)
    whole = before | dict(tested)
    if not tested or whole == before:
        return
    rows: list[dict[str, Any]] = [
        {
            **pair._asdict(),
            **one._asdict(),
            "results": _hashes(project, benchmark, pair.stage),
            "other_results": _hashes(project, benchmark, pair.other_stage),
        }
        for pair, one in sorted(whole.items(), key=lambda item: item[0])
    ]
    write_text(file_of(project, benchmark), to_json(rows))


def _hashes(project: Project, benchmark: str, stage: str) -> dict[str, str]:
    """Seed → hash of its metrics.json, of the streams that may be shown together."""
    folder = project.online_results(benchmark, stage)
    return {
        str(seed): read_json(seed_folder(folder, seed) / MANIFEST)[RESULTS][:16]
        for seed in standing(project, benchmark, stage)
    }
