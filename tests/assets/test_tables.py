"""Tables whose bytes depend on their rows alone."""

from pathlib import Path

import numpy as np
import pytest

from assets import tables
from wavecore.errors import StorageError


def _columns(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "window": np.arange(n),
        "channel": np.where(np.arange(n) % 2 == 0, "a", "b"),
        "value": rng.normal(size=n),
        "lags": rng.integers(0, 9, size=(n, 5)),
        "band": rng.normal(size=(n, 3)).astype(np.float32),
    }


def test_chunks_of_any_size_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ROW_GROUP", 64)
    whole, n = _columns(301), 301
    written = []
    for size in (7, 64, 100, n):
        path = tmp_path / f"{size}.parquet"
        chunks = ({k: v[i : i + size] for k, v in whole.items()} for i in range(0, n, size))
        assert tables.write_parquet(path, chunks) == n
        written.append(path.read_bytes())
    assert all(bytes_ == written[0] for bytes_ in written)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    whole = _columns(50)
    tables.write_parquet(tmp_path / "t.parquet", [whole])
    frame = tables.read_parquet(tmp_path / "t.parquet")
    np.testing.assert_array_equal(frame["value"].to_numpy(), whole["value"])
    np.testing.assert_array_equal(np.stack(frame["lags"].to_list()), whole["lags"])
    assert frame["channel"].to_list() == whole["channel"].tolist()
    pieces = list(tables.row_groups(tmp_path / "t.parquet"))
    assert sum(len(p) for p in pieces) == 50


@pytest.mark.parametrize("reader", [tables.read_parquet, lambda p: list(tables.row_groups(p))])
def test_a_truncated_or_absent_table_is_one_clear_error(tmp_path: Path, reader: object) -> None:
    path = tmp_path / "windows.parquet"
    with pytest.raises(StorageError, match=r"windows\.parquet: not there"):
        reader(path)  # type: ignore[operator]
    tables.write_parquet(path, [_columns(500)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(StorageError, match=r"windows\.parquet: not a whole Parquet file"):
        reader(path)  # type: ignore[operator]
