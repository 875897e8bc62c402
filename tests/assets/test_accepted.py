"""Acceptances of refactored code."""

from pathlib import Path

from assets.accepted import equal_code, record
from assets.project import Project


def test_accepted_code_is_equal_over_several_steps_and_branches(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "results").mkdir()
    record(project, {"code": [["a", "b"]]})
    record(project, {"code": [["b", "c"], ["x", "y"]]})
    # A second refactor of `a`, accepted against what it was made from, and gone on from.
    record(project, {"code": [["a", "d"]]})
    record(project, {"code": [["d", "e"]]})
    same = ["a", "b", "c", "d", "e"]
    assert all(equal_code(project, was, now) for was in same for now in same)
    assert equal_code(project, "y", "x")
    assert not any(equal_code(project, was, other) for was in same for other in ("x", "y", "unknown"))
    assert equal_code(project, "unknown", "unknown")
