"""Token ids that were made once are the ones that a model makes, and give its forecasts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from language import GEOMETRY, batch_of, budgeted, made, window_data

from wavecore.errors import DataError
from wavecore.learn.forecast import forecast, predict
from wavecore.model.looking import evidence
from wavecore.prompt.stored import packed, setup_of, size_mb, tell, unpacked
from wavecore.prompt.tokens import Prompter
from wavecore.series.windows import WindowData


def prompter_of(folder: Path, **model: object) -> Prompter:
    found = made("base", folder, **model).prompter
    assert found is not None
    return found


def told(prompter: Prompter, data: WindowData) -> WindowData:
    """The data with the ids of all their windows."""
    facts = [row for some in tell(prompter, data.values) for row in some.facts]
    ids = np.array([token for row in facts for token in row])
    return replace(data, facts=packed(ids, np.array([len(row) for row in facts]), data.n_channels))


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2", "llama", "qwen2"])
def test_every_window_is_told_as_the_model_would_tell_it(family: str, folders: dict[str, Path]) -> None:
    """Whatever else is in the batch: the last window, which has no target yet, included."""
    model, data = made("base", folders[family]), window_data()
    assert model.prompter is not None
    some = list(tell(model.prompter, data.values))
    window, channel = (np.concatenate([getattr(s, name) for s in some]) for name in ("window", "channel"))
    count = len(data) - data.window + 1
    np.testing.assert_array_equal(window, np.repeat(np.arange(count), 3))
    np.testing.assert_array_equal(channel, np.tile(np.arange(3), count))

    known = told(model.prompter, data)
    origins = np.random.default_rng(1).permutation(np.arange(data.window, len(data) - data.horizon + 1))
    for start in range(0, len(origins), 7):
        batch = known.batch(origins[start : start + 7])
        assert batch.facts is not None
        ids = [prompt.ids for prompt in model.prompts(batch.x)]
        assert unpacked(batch.facts.flatten(end_dim=1), model.prompter.fixed_ids) == ids
    future = known.future_batch()
    assert future.facts is not None
    ids = [prompt.ids for prompt in model.prompts(future.x)]
    assert unpacked(future.facts.flatten(end_dim=1), model.prompter.fixed_ids) == ids


@pytest.mark.parametrize("computation", ["cached", "plain"])
def test_forecasts_are_the_same_and_follow_from_the_ids(computation: str, folders: dict[str, Path]) -> None:
    stage = "base" if computation == "cached" else "base.full_attention"
    model, data = made(stage, folders["bert"]), window_data()
    assert model.prompter is not None
    known, origins = told(model.prompter, data), np.arange(64, 300, 9)
    for (_, plain), (_, from_ids) in zip(
        forecast(model, data, origins, 5), forecast(model, known, origins, 5), strict=True
    ):
        np.testing.assert_array_equal(plain, from_ids)
    batch = known.batch(origins[:2])
    assert batch.facts is not None
    other = batch._replace(facts=torch.where(batch.facts > 0, 5, batch.facts))
    assert not np.array_equal(predict(model, batch), predict(model, other))


def test_the_same_with_as_many_tokens_as_each_window_needs(folders: dict[str, Path]) -> None:
    model, data = budgeted(folders["bert"], "budget.per_window"), window_data()
    assert model.prompter is not None
    assert model.budget is not None
    known = told(model.prompter, data)
    origins = np.arange(64, 300, 9)
    x = data.batch(origins).x
    model.budget.tokens.fill_(4)
    model.budget.threshold.fill_(float(evidence(model, x, 4)[:, 2].median()))
    assert len(model.needed(x).unique()) > 1, "series of several sizes are read apart"
    np.testing.assert_array_equal(predict(model, data.batch(origins)), predict(model, known.batch(origins)))


@given(
    rows=st.lists(st.lists(st.integers(0, 2**31 - 1), max_size=5), min_size=2, max_size=12).filter(
        lambda rows: len(rows) % 2 == 0
    ),
    fixed=st.lists(st.integers(0, 9), max_size=3),
)
def test_packing_loses_nothing(rows: list[list[int]], fixed: list[int]) -> None:
    ids = np.array([token for row in rows for token in row], dtype=np.int32)
    facts = packed(ids, np.array([len(row) for row in rows]), 2)
    assert facts.shape == (len(rows) // 2, 2, max(map(len, rows)))
    assert unpacked(facts.flatten(end_dim=1), fixed) == [fixed + row for row in rows]


def test_a_batch_carries_its_ids_wherever_it_goes(folders: dict[str, Path]) -> None:
    known = told(prompter_of(folders["bert"]), window_data())
    batch = known.batch([100, 64, 200])
    assert batch.facts is not None
    assert known.facts is not None
    assert torch.equal(batch.facts, known.facts[[36, 0, 136]])
    assert batch.to("cpu").facts is batch.facts
    assert batch_of(2).to("cpu").facts is None


def test_ids_of_other_windows_are_refused(folders: dict[str, Path]) -> None:
    data = window_data()
    known = told(prompter_of(folders["bert"]), data)
    with pytest.raises(DataError, match=r"token ids are of \(337, 3\) windows and channels, the series has \(336, 3\)"):
        replace(known, values=data.values[1:], observed=data.observed[1:])


def test_a_setup_changes_with_whatever_changes_an_id(folders: dict[str, Path]) -> None:
    same = setup_of(prompter_of(folders["bert"]), "a")
    assert same == setup_of(prompter_of(folders["bert"], d_ff=4), "a")
    others = [
        setup_of(prompter_of(folders["bert"]), "b"),
        setup_of(prompter_of(folders["bert"], prompt={"tokens": 180}), "a"),
    ]
    for change in (
        {"horizon": 13}, {"description": "Other."}, {"step": "2h"},
        {"features": replace(GEOMETRY.features, lags=4)},
    ):  # fmt: skip
        found = made("base", folders["bert"], replace(GEOMETRY, **change)).prompter
        assert found is not None
        others.append(setup_of(found, "a"))
    assert len({same, *others}) == len(others) + 1
    kept = made("base", folders["bert"], replace(GEOMETRY, features=replace(GEOMETRY.features, memory_mb=7))).prompter
    assert kept is not None
    assert setup_of(kept, "a") == same


def test_the_size_is_a_bound(folders: dict[str, Path]) -> None:
    prompter, data = prompter_of(folders["bert"]), window_data()
    facts = told(prompter, data).facts
    assert facts is not None
    assert facts.numel() * 4 / 2**20 <= size_mb(prompter, len(facts), data.n_channels)
