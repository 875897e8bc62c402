"""Acceptances of refactored code."""

from contextlib import suppress
from pathlib import Path

import pytest

from assets.accepted import equal_code, record_file, recorded
from assets.project import Project


def accept(project: Project, *pairs: list[str]) -> None:
    with recorded(project, {"code": list(pairs)}):
        pass


def test_accepted_code_is_equal_over_several_steps_and_branches(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "results").mkdir()
    accept(project, ["a", "b"])
    accept(project, ["b", "c"], ["x", "y"])
    # A second refactor of `a`, accepted against what it was made from, and gone on from.
    accept(project, ["a", "d"])
    accept(project, ["d", "e"])
    same = ["a", "b", "c", "d", "e"]
    assert all(equal_code(project, was, now) for was in same for now in same)
    assert equal_code(project, "y", "x")
    assert not any(equal_code(project, was, other) for was in same for other in ("x", "y", "unknown"))
    assert equal_code(project, "unknown", "unknown")


@pytest.mark.parametrize("before", [[], [["a", "b"]]], ids=["first", "second"])
def test_what_fails_is_not_accepted(before: list[list[str]], tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "results").mkdir()
    if before:
        accept(project, *before)
    text = record_file(project).read_text() if before else None
    with suppress(RuntimeError), recorded(project, {"code": [["c", "d"]]}):
        assert equal_code(project, "c", "d")
        raise RuntimeError
    assert not equal_code(project, "c", "d")
    assert (record_file(project).read_text() if record_file(project).is_file() else None) == text
