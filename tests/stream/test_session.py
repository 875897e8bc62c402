"""A session knows what was pushed into it and nothing else: labels come after their horizon and delay, once each; a bad
row changes nothing; saved and restored, it goes on with the same forecasts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from wavecore.errors import DataError, SettingsError, StorageError, TrainingError
from wavecore.model.dlinear import DLinear, DLinearSettings
from wavecore.seeds import generator
from wavecore.stream.delay import Pending, check_delay, due
from wavecore.stream.forecaster import TitanStream
from wavecore.stream.fourier import Elf
from wavecore.stream.learners import Frozen, Gradient, Replay, Titan
from wavecore.stream.position import restore, save
from wavecore.stream.session import Label, Learner, Session, Shape
from wavecore.stream.settings import DelaySettings, HeadSettings, MemorySettings, OnlineSettings, StreamSettings

T, H, N = 16, 4, 2
SHAPE = Shape(T, H, ("a", "b"))
HOURS = replace(SHAPE, step=np.timedelta64(1, "h"))
ONLINE = OnlineSettings(learning_rate=0.01)
SMALL = StreamSettings(d_model=8, heads=2, patch=2, persistent=2, memory=MemorySettings(chunk=2), head=HeadSettings())
START = np.datetime64("2024-01-01T00", "us")


def linear(seed: int = 0) -> DLinear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DLinear(T, H, N, DLinearSettings(kernel=5, start="random"))


def titan(settings: StreamSettings = SMALL) -> TitanStream:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TitanStream(T, H, N, settings)


LIVING = replace(SMALL, memory=MemorySettings(chunk=2, life="stream"))
LEARNERS: dict[str, Callable[[], Learner]] = {
    "frozen": lambda: Frozen(linear(), H),
    "gradient": lambda: Gradient(linear(), H, ONLINE),
    "replay": lambda: Replay(linear(), H, ONLINE, seed=0, size=8, replayed=3),
    "elf": lambda: Elf(linear(), T, H, N, warm=0),
    "elf that waits": lambda: Elf(linear(), T, H, N, warm=9),
    "titan": lambda: Titan(titan(), ONLINE),
    "titan that lives": lambda: Titan(titan(LIVING), ONLINE),
}


def waves(rows: int, seed: int = 0) -> Tensor:
    draw = np.random.default_rng(seed)
    t = np.arange(rows)[:, None]
    return torch.from_numpy(np.sin(t / np.array([3, 5])) + 0.1 * draw.standard_normal((rows, N))).float()


def forecasts(session: Session, values: Tensor) -> list[Tensor]:
    return [y for row in values if (y := session.push(row)) is not None]


class Listening:
    """Notes what it is told; forecasts zero."""

    def __init__(self) -> None:
        self.labels: list[Label] = []
        self.at: list[tuple[int, int]] = []
        self.asked: list[tuple[int, Tensor]] = []

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, None]:
        self.asked.append((origin, x))
        return torch.zeros(H, N), None

    def learn(self, labels: Sequence[Label]) -> None:
        self.labels += labels
        self.at += [(label.origin, len(self.asked)) for label in labels]

    def state(self) -> dict[str, Tensor]:
        return {}

    def restore(self, state: dict[str, Tensor]) -> None: ...


@given(
    rows=st.integers(T, 120),
    delay=st.builds(DelaySettings, st.sampled_from(["fixed", "geometric"]), st.integers(0, 9), st.integers(0, 3)),
    every=st.integers(1, 9),
)
def test_every_label_comes_once_and_as_soon_as_enough_are_known(rows: int, delay: DelaySettings, every: int) -> None:
    learner = Listening()
    values = waves(rows)
    forecasts(Session(learner, SHAPE, replace(ONLINE, delay=delay, every=every)), values)
    assert [origin for origin, _ in learner.asked] == list(range(T, rows + 1))
    for origin, x in learner.asked:
        assert torch.equal(x, values[origin - T : origin])
    came = {origin: T + asked for origin, asked in learner.at}
    assert len(came) == len(learner.at)
    # With `rows known` = T + forecasts so far: the label came before the forecast from there, at its due time exactly,
    # or with the one that made up `every`.
    expected: dict[int, int] = {}
    for now in range(T, rows + 1):
        known = [o for o in range(T, now) if o not in expected and due(o, H, delay) <= now]
        expected |= dict.fromkeys(known, now) if len(known) >= every else {}
    assert came == expected
    for label in learner.labels:
        assert torch.equal(label.x, values[label.origin - T : label.origin])
        assert torch.equal(label.y, values[label.origin : label.origin + H])
        assert label.mask.all()


class Poisoned:
    """A learner whose labels are NaN where they are not yet known, by a count of rows and a rule of its own."""

    def __init__(self, learner: Learner, delay: DelaySettings) -> None:
        self.learner, self.delay, self.rows = learner, delay, 0

    def known_with(self, origin: int) -> int:
        extra = self.delay.steps
        if self.delay.kind == "geometric":
            extra = int(generator(self.delay.seed, "delay", origin).geometric(1 / (1 + self.delay.steps))) - 1
        return origin + H + extra

    def forecast(self, x: Tensor, origin: int) -> tuple[Tensor, Any]:
        return self.learner.forecast(x, origin)

    def learn(self, labels: Sequence[Label]) -> None:
        late = [self.known_with(label.origin) > self.rows for label in labels]
        self.learner.learn(
            [x._replace(y=x.y * float("nan")) if bad else x for x, bad in zip(labels, late, strict=True)]
        )

    def state(self) -> dict[str, Tensor]:
        return self.learner.state()

    def restore(self, state: dict[str, Tensor]) -> None:
        self.learner.restore(state)


def unchanged_by_poison(name: str, delay: DelaySettings) -> bool:
    values, online = waves(60), replace(ONLINE, delay=delay)
    plain = forecasts(Session(LEARNERS[name](), SHAPE, online), values)
    poisoned = Poisoned(LEARNERS[name](), delay)
    session, found = Session(poisoned, SHAPE, online), []
    for row in values:
        poisoned.rows += 1
        if (y := session.push(row)) is not None:
            found.append(y)
    assert all(torch.isfinite(y).all() for y in plain)
    return all(torch.equal(a, b) for a, b in zip(plain, found, strict=True))


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.parametrize("delay", [DelaySettings(), DelaySettings(steps=5), DelaySettings("geometric", 3)])
def test_labels_that_are_not_yet_known_may_be_nan(name: str, delay: DelaySettings) -> None:
    assert unchanged_by_poison(name, delay)


@pytest.mark.parametrize("name", [n for n in LEARNERS if n not in ("frozen", "elf that waits")])
def test_a_label_that_comes_early_is_seen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test above would see if the book of labels forgot the delay."""
    delay = DelaySettings(steps=5)
    monkeypatch.setattr("wavecore.stream.delay.due", lambda origin, horizon, delay: origin + horizon)
    with pytest.raises(TrainingError, match="the loss is nan") if name != "elf" else nullcontext():
        assert not unchanged_by_poison(name, delay)


@pytest.mark.parametrize("name", [n for n in LEARNERS if n not in ("frozen", "elf that waits")])
def test_learners_learn(name: str) -> None:
    values = waves(80)
    online = replace(ONLINE, delay=DelaySettings(steps=2))
    one = forecasts(Session(LEARNERS[name](), SHAPE, online), values)
    late = forecasts(Session(LEARNERS[name](), SHAPE, replace(online, delay=DelaySettings(steps=60))), values)
    # The first label is known H + 2 rows after the first forecast: until then both are what they were at the start.
    same = [torch.equal(a, b) for a, b in zip(one, late, strict=True)]
    assert all(same[: H + 2])
    assert not any(same[H + 2 + 1 :])


@pytest.mark.parametrize("every", [1, 5])
@pytest.mark.parametrize("name", LEARNERS)
def test_saved_and_restored_it_goes_on_with_the_same_forecasts(name: str, every: int, tmp_path: Path) -> None:
    values, cut = waves(90), 57
    online = replace(ONLINE, delay=DelaySettings("geometric", 3), every=every)
    whole = forecasts(Session(LEARNERS[name](), SHAPE, online), values)
    first = Session(LEARNERS[name](), SHAPE, online)
    begun = forecasts(first, values[:cut])
    save(first, tmp_path, "abc")
    second = Session(LEARNERS[name](), SHAPE, online)
    restore(second, tmp_path, "abc", rows=len(values))
    rest = forecasts(second, values[cut:])
    for a, b in zip(whole, begun + rest, strict=True):
        assert torch.equal(a, b)
    once = Session(Listening(), SHAPE, online)
    forecasts(once, values)
    assert (second.rows, second.pending.labelled) == (once.rows, once.pending.labelled)


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    values = waves(60)
    session = Session(LEARNERS["gradient"](), SHAPE, ONLINE)
    forecasts(session, values[:40])
    save(session, tmp_path, "abc")

    def new(name: str = "gradient", online: OnlineSettings = ONLINE) -> Session:
        return Session(LEARNERS[name](), SHAPE, online)

    with pytest.raises(StorageError, match="other settings"):
        restore(new(), tmp_path, "abd")
    with pytest.raises(StorageError, match="other settings"):
        restore(new("elf"), tmp_path, "abc")
    with pytest.raises(StorageError, match="other settings"):
        restore(new(online=replace(ONLINE, learning_rate=0.02)), tmp_path, "abc")
    with pytest.raises(StorageError, match="has seen 40 rows, the stream has 39"):
        restore(new(), tmp_path, "abc", rows=39)
    with pytest.raises(StorageError, match="no state"):
        restore(new(), tmp_path / "none", "abc")
    (tensors,) = tmp_path.glob("*.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(StorageError, match="truncated"):
        restore(new(), tmp_path, "abc")


def hour(row: int) -> np.datetime64:
    return START + np.timedelta64(row, "h")


@pytest.mark.parametrize(
    ("time", "values", "said"),
    [
        (hour(29), None, "twice the same time"),
        (hour(3), None, "after one of"),
        (hour(31), None, "1 rows are missing"),
        (hour(30) + np.timedelta64(7, "m"), None, "no whole number of steps"),
        (hour(30), torch.tensor([1.0, float("nan")]), "no value of b"),
        (hour(30), torch.tensor([float("inf"), 1.0]), "an infinite value of a"),
        (hour(30), torch.zeros(3), "3.* values for 2 channels"),
    ],
)
def test_a_bad_row_is_an_error_and_changes_nothing(time: np.datetime64, values: Tensor | None, said: str) -> None:
    stream, sessions = waves(60), [Session(LEARNERS["gradient"](), HOURS, ONLINE) for _ in range(2)]
    for session in sessions:
        for i in range(30):
            session.push(stream[i], hour(i))
    with pytest.raises(DataError, match=said):
        sessions[0].push(stream[30] if values is None else values, time)
    for i in range(30, 60):
        one, other = (session.push(stream[i], hour(i)) for session in sessions)
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


def test_missing_rows_and_values_are_skipped_and_counted_where_that_is_declared() -> None:
    learner = Listening()
    session = Session(learner, HOURS, replace(ONLINE, missing="skip"))
    values = waves(50)
    values[20, 1] = float("nan")
    for i in range(50):
        if i not in (30, 31):
            session.push(values[i], hour(i))
    assert (session.rows, session.skipped) == (50, 3)
    windows = dict(learner.asked)
    # No forecast was asked for in the gap, and the last known value stands in.
    assert set(windows) == set(range(T, 51)) - {31, 32}
    assert windows[21][-1].tolist() == [float(values[20, 0]), float(values[19, 1])]
    assert torch.equal(windows[33][-3:-1], values[29].expand(2, -1))
    masks = {label.origin: label.mask for label in learner.labels}
    assert masks[20].tolist() == [[True, False], *[[True, True]] * 3]
    assert masks[28].tolist() == [[True, True], [True, True], [False, False], [False, False]]


def test_labels_of_nothing_or_twice_or_early_are_errors() -> None:
    pending = Pending(H, DelaySettings(steps=2))
    pending.expect(5)
    for again in (5, 4):
        with pytest.raises(DataError, match=f"from row {again} after one from row 5"):
            pending.expect(again)
    with pytest.raises(DataError, match="known with 11"):
        pending.take(5, 10)
    with pytest.raises(DataError, match="never forecast"):
        pending.take(6, 100)
    pending.take(5, 11)
    with pytest.raises(DataError, match="used already"):
        pending.take(5, 11)


def test_a_delay_longer_than_the_stream_is_refused() -> None:
    check_delay(DelaySettings(steps=96), 4, 100)
    with pytest.raises(SettingsError, match="no label would ever be known"):
        check_delay(DelaySettings(steps=97), 4, 100)


def test_drawn_delays_have_the_mean_that_was_asked_for() -> None:
    drawn = [due(o, H, DelaySettings("geometric", 6, seed=1)) - o - H for o in range(4000)]
    assert min(drawn) == 0
    assert 5.5 < np.mean(drawn) < 6.5
