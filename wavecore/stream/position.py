"""A session on disk: saved in the middle of a stream, it goes on with the same forecasts.

Two files in a folder, replaced together: `state.json` (counts, times, what the state is of) and a tensor file that it
names with its hash. A state of other settings, of another stream, or ahead of it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from wavecore.errors import StorageError
from wavecore.learn.checkpoint import read_resume, write_resume
from wavecore.learn.manifest import hash_of
from wavecore.stream.session import Session

BESIDE = "beside/"


def save(session: Session, folder: Path, config_hash: str, beside: Mapping[str, Tensor] | None = None) -> None:
    """Write the session's state.

    Args:
        session: between two rows.
        folder: of this session alone.
        config_hash: of all that the session was made from: settings, model, data.
        beside: what the caller wants to find again with it.

    Raises:
        StorageError: the disk refused.
    """
    tensors: dict[str, Tensor] = {"values": session.values, "observed": session.observed}
    tensors |= {f"learner/{name}": tensor for name, tensor in session.learner.state().items()}
    tensors |= {f"{BESIDE}{name}": tensor for name, tensor in (beside or {}).items()}
    # Many forecasts note the same memory: one copy of each tensor.
    places: dict[int, str] = {}
    notes: dict[str, list[str] | None] = {}
    for origin, note in session.pending.notes.items():
        if note is None:
            notes[str(origin)] = None
            continue
        for tensor in note:
            places.setdefault(id(tensor), f"note/{len(places)}")
            tensors[places[id(tensor)]] = tensor
        notes[str(origin)] = [places[id(tensor)] for tensor in note]
    pending = session.pending
    state = {
        "rows": session.rows,
        "skipped": session.skipped,
        "first": session.first,
        "time": None if session.time is None else str(session.time),
        "notes": notes,
        "last": pending.last,
        "labelled": pending.labelled,
    }
    write_resume(folder, _bound(session, config_hash), session.rows, state, tensors)


def restore(session: Session, folder: Path, config_hash: str, rows: int | None = None) -> dict[str, Tensor]:
    """Go on from a saved state.

    Args:
        session: a new one, made as the saved one was.
        folder, config_hash: as of `save`.
        rows: how many rows the stream has; None: not known yet.

    Returns:
        what was saved beside it.

    Raises:
        StorageError: nothing is there, it is damaged, or of other settings; or it is ahead of the stream.
    """
    found = read_resume(folder, _bound(session, config_hash))
    if found is None:
        raise StorageError(f"{folder}: no state of a session", "start the session anew")
    state = found.state
    if rows is not None and state["rows"] > rows:
        raise StorageError(
            f"{folder}: the state has seen {state['rows']} rows, the stream has {rows}",
            "take the stream that the state is of, or start anew",
        )
    session.learner.restore(
        {name.removeprefix("learner/"): t for name, t in found.tensors.items() if name.startswith("learner/")}
    )
    session.values, session.observed = found.tensors["values"].clone(), found.tensors["observed"].clone()
    session.rows, session.skipped, session.first = state["rows"], state["skipped"], state["first"]
    session.time = None if state["time"] is None else np.datetime64(state["time"])
    pending = session.pending
    pending.last, pending.labelled = state["last"], state["labelled"]
    pending.notes = {
        int(origin): None if names is None else tuple(found.tensors[name] for name in names)
        for origin, names in state["notes"].items()
    }
    return {name.removeprefix(BESIDE): t for name, t in found.tensors.items() if name.startswith(BESIDE)}


def _bound(session: Session, config_hash: str) -> str:
    shape = session.shape
    return hash_of(
        [
            config_hash,
            type(session.learner).__name__,
            [shape.window, shape.horizon, shape.channels, str(shape.step), session.begin],
            session.online,
        ]
    )
