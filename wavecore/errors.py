"""The errors a user may meet. Each says what is wrong (naming the file, column, row or key) and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence


class WavecoreError(Exception):
    """Base of every error that is meant to be read by a user.

    Attributes:
        problem: what is wrong, naming the file, column, row or key.
        fix: what to do about it.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}\n  fix: {fix}")
        self.problem = problem
        self.fix = fix


class SettingsError(WavecoreError):
    """A key of params.yaml or of a dataset or benchmark YAML is unknown, ill-typed or contradicts another."""


class DataError(WavecoreError):
    """A file or table does not hold what it should.

    Attributes:
        columns: the columns (or channels) at fault, for tables of failed checks.
        rows: the rows at fault: 1-based line numbers of a text file (header = line 1), or timestamps.
    """

    def __init__(self, problem: str, fix: str, columns: Sequence[str] = (), rows: Sequence[object] = ()) -> None:
        super().__init__(problem, fix)
        self.columns = tuple(columns)
        self.rows = tuple(rows)


class TrainingError(WavecoreError):
    """A training run cannot go on (a loss that is not finite, a checkpoint that does not fit)."""


class BusyError(WavecoreError):
    """Another process is already at work on the same partition."""


class Interrupted(WavecoreError):
    """The user stopped the program; what was finished is kept."""


class StorageError(WavecoreError):
    """The disk refused a write, or a stored artifact is not what its manifest says."""
