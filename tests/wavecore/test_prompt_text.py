"""Prompts: what they say of a window, in which unit, and within which budget."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from language import tokenizer_of

from wavecore.config import FeatureSettings
from wavecore.errors import SettingsError
from wavecore.prompt.settings import PromptSettings
from wavecore.prompt.statistics import circular_autocorrelation, circular_lags, statistics
from wavecore.prompt.text import ETT, Subject, facts, fixed_text, spoken
from wavecore.prompt.tokens import LEAST_ROOM, Prompter

SUBJECT = Subject("Hourly load.", "1h", 128, 24, FeatureSettings(wavelet="db4", levels=4))
BERT, GPT2 = tokenizer_of("bert"), tokenizer_of("gpt2")


def windows(count: int, length: int = 128, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    x = np.sin(2 * np.pi * np.arange(length) / random.choice([8, 12, 24], size=(count, 1)))
    x = x + random.uniform(0.01, 1) * random.normal(size=x.shape)
    return ((x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)).astype(np.float32)


def sine(period: float, length: int = 256) -> np.ndarray:
    x = np.sin(2 * np.pi * np.arange(length) / period)[None]
    return ((x - x.mean()) / x.std()).astype(np.float32)


def test_the_fixed_part_says_what_and_how_far() -> None:
    text = fixed_text(SUBJECT, PromptSettings())
    assert text == "Dataset: Hourly load. Task: forecast the next 24 steps from the last 128 steps of 1 hour."
    assert ETT in fixed_text(SUBJECT, PromptSettings(description="ett"))


@pytest.mark.parametrize("seed", range(3))
def test_time_facts_are_the_statistics(seed: int) -> None:
    x = windows(4, seed=seed)
    told, said = statistics(x), facts(x, SUBJECT, PromptSettings())
    for i, pieces in enumerate(said):
        text = "".join(pieces)
        for name, key in (("minimum", "min"), ("maximum", "max"), ("median", "median")):
            value = float(re.search(rf"{name} (\S+?)(,|$)", text).group(1))  # type: ignore[union-attr]
            assert value == pytest.approx(float(told[key][i]), rel=5e-3)
        assert ("upward" in text) == bool(told["trend"][i] > 0)
        lags = re.search(r"repeats after ([\d ]+) steps", text)
        assert lags is not None
        assert [int(n) for n in lags.group(1).split()] == [n for n in told["lags"][i].tolist() if n > 0]


def test_all_digits_of_a_float32_are_the_references_way() -> None:
    x = windows(1)
    long = "".join(facts(x, SUBJECT, PromptSettings(digits=0))[0])
    assert f"minimum {float(x.min())!r}" in long
    short = "".join(facts(x, SUBJECT, PromptSettings())[0])
    assert len(GPT2(short)["input_ids"]) < len(GPT2(long)["input_ids"])


def test_circular_lags_are_lag_0_and_mirrors() -> None:
    x = windows(20)
    lags = circular_lags(x)
    assert (lags[:, 0] == 0).all()
    correlation = circular_autocorrelation(x)
    for row, window in zip(lags, correlation, strict=True):
        brute = [float(np.dot(x[0], np.roll(x[0], -k))) for k in range(3)]
        assert np.allclose(correlation[0][:3], brute, atol=1e-3)
        # Every lag but 0 and T/2 has its mirror among the largest, unless the fifth place cuts the pair in two.
        mirrored = [k for k in row[1:] if (128 - k) in row or np.isclose(window[k], window[128 - k])]
        assert len(mirrored) == 4
    text = "".join(facts(x[:1], SUBJECT, PromptSettings(lags="circular"))[0])
    assert "repeats after 0 " in text


def test_a_window_that_ends_where_it_began() -> None:
    x = windows(1)
    x[0, -1] = x[0, 0]
    assert ", trend flat" in facts(x, SUBJECT, PromptSettings())[0]
    assert ", trend flat" in facts(x, SUBJECT, PromptSettings(lags="circular"))[0]
    assert ", trend downward" in facts(x, SUBJECT, PromptSettings(flat=False))[0]


def test_peaks_never_say_lag_0_or_a_mirror() -> None:
    for pieces in facts(windows(50), SUBJECT, PromptSettings()):
        lags = [int(n) for n in re.findall(r"\d+", pieces[-1])] if "repeats" in pieces[-1] else []
        assert 0 not in lags
        assert all(lag <= 64 for lag in lags)


@pytest.mark.parametrize(
    ("step", "steps", "said"),
    [("1h", 24, "24 hours"), ("15m", 24, "360 minutes"), ("1d", 7, "7 days"), ("7d", 52, "52 weeks"),
     ("1mo", 12, "12 months"), ("1q", 4, "12 months"), ("1y", 3, "3 years"), ("30s", 2, "60 seconds"),
     ("1h", 1, "1 hour"), ("1h30m", 2, "180 minutes")],
)  # fmt: skip
def test_times_are_in_the_unit_of_the_step(step: str, steps: float, said: str) -> None:
    assert spoken(steps, step) == said


@pytest.mark.parametrize(("step", "factor", "unit"), [("1h", 1, "hours"), ("15m", 15, "minutes"), ("1d", 1, "days")])
@pytest.mark.parametrize("period", [5.5, 12.0, 23.0])
def test_the_true_period_lies_in_the_band_told(step: str, factor: float, unit: str, period: float) -> None:
    """A pure sine: the period told is within √2 of the true one, and the leading band spans it."""
    subject = dataclasses.replace(SUBJECT, step=step, window=256)
    pieces = facts(sine(period), subject, PromptSettings(statistics="wavelet"))[0]
    told = re.fullmatch(rf" Window: main period (\S+) {unit}", pieces[0])
    assert told is not None
    assert 2**-0.5 <= float(told.group(1)) / (factor * period) <= 2**0.5
    band = re.fullmatch(r", energy \d+% at ([\d.]+)-([\d.]+) \(([\d.]+)\)", pieces[1])
    assert band is not None
    low, high, centre = map(float, band.groups())
    assert low <= factor * period <= high
    assert centre == pytest.approx((low * high) ** 0.5, rel=0.01)


def test_wavelet_facts_name_bands_entropy_and_bursts() -> None:
    x = sine(10.0, 128)
    x[0, 70] += 9
    text = "".join(facts(x, SUBJECT, PromptSettings(statistics="wavelet", band_share=0.0, bands=9))[0])
    shares = [int(n) for n in re.findall(r"(\d+)% ", text)]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
    assert 98 <= sum(shares) <= 102
    assert "entropy 0." in text
    mark = re.search(r"bursts at steps (\d+)", text)
    assert mark is not None
    assert abs(int(mark.group(1)) - 70) <= 8
    few = "".join(facts(x, SUBJECT, PromptSettings(statistics="wavelet", bands=1))[0])
    assert len(re.findall(r"% ", few)) == 1


def test_a_constant_window_has_a_prompt() -> None:
    x = np.zeros((1, 128), dtype=np.float32)
    assert facts(x, SUBJECT, PromptSettings(statistics="wavelet"))[0] == [" Window: no movement"]
    text = "".join(facts(x, SUBJECT, PromptSettings())[0])
    assert text == " Window: minimum 0, maximum 0, median 0, trend flat"
    both = facts(x, SUBJECT, PromptSettings(statistics="both"))[0]
    assert both[-1] == ", no movement"


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    extra=st.integers(0, 150),
    what=st.sampled_from(["time", "wavelet", "both"]),
    digits=st.integers(0, 9),
    family=st.sampled_from(["bert", "gpt2"]),
)
def test_the_budget_holds(seed: int, extra: int, what: str, digits: int, family: str) -> None:
    tokenizer = BERT if family == "bert" else GPT2
    free = Prompter(tokenizer, SUBJECT, PromptSettings(tokens=0))
    least = len(tokenizer(free.fixed)["input_ids"]) + LEAST_ROOM
    settings = PromptSettings(statistics=what, tokens=least + extra, digits=digits)  # type: ignore[arg-type]
    prompter = Prompter(tokenizer, SUBJECT, settings)
    x = windows(3, seed=seed)
    every = facts(x, SUBJECT, settings)
    for prompt, pieces in zip(prompter.prompts(x), every, strict=True):
        assert len(prompt.ids) <= settings.tokens == prompter.longest
        kept = len(pieces) - len(prompt.left_out)
        # The most important ones stay, whole, in their order; what comes after the first without room is out.
        assert prompt.text == prompter.fixed + "".join(pieces[:kept])
        if prompt.left_out:
            assert len(tokenizer(prompt.text + pieces[kept])["input_ids"]) > settings.tokens


def test_without_a_budget_the_longest_prompt_is_foreseen() -> None:
    for what in ("time", "wavelet", "both"):
        prompter = Prompter(GPT2, SUBJECT, PromptSettings(statistics=what, tokens=0, digits=0))  # type: ignore[arg-type]
        assert max(len(p.ids) for p in prompter.prompts(windows(50))) <= prompter.longest


def test_the_same_window_has_the_same_prompt_in_any_batch() -> None:
    prompter = Prompter(BERT, SUBJECT, PromptSettings(statistics="both", tokens=160))
    x = windows(9)
    whole = prompter.prompts(x)
    assert [prompter.prompts(x[i : i + 1])[0] for i in range(9)] == whole
    fixed = len(BERT(prompter.fixed)["input_ids"]) - 1  # without [SEP]
    assert len({tuple(p.ids[:fixed]) for p in whole}) == 1
    assert all(p.ids[0] == 1 and p.ids[-1] == 2 for p in whole)  # [CLS] … [SEP]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_a_language_model_reads_an_ordinary_text(family: str) -> None:
    """The ids are those of the whole text, also where a tokenizer puts a mark before each piece (LLaMA's)."""
    tokenizer = tokenizer_of(family)
    for tokens in (0, 400):
        prompter = Prompter(tokenizer, SUBJECT, PromptSettings(statistics="both", tokens=tokens))
        for prompt in prompter.prompts(windows(5)):
            assert prompt.ids == tokenizer(prompt.text)["input_ids"]


def test_no_number_has_an_exponent() -> None:
    assert spoken(512, "15m") == "7680 minutes"
    subject = dataclasses.replace(SUBJECT, step="15m", window=2048, features=FeatureSettings(levels=7))
    text = "".join(facts(sine(150, 2048), subject, PromptSettings(statistics="wavelet", band_share=0.0, bands=9))[0])
    assert "e+" not in text
    assert "1920-3840 (2720)" in text


def test_no_room_for_facts_is_an_error() -> None:
    long = dataclasses.replace(SUBJECT, description="load " * 200)
    with pytest.raises(SettingsError, match=r"prompt\.tokens: 128") as error:
        Prompter(BERT, long, PromptSettings())
    assert "short `prompt`" in error.value.fix


@pytest.mark.parametrize("bad", [{"tokens": -1}, {"digits": -1}, {"bands": 0}, {"band_share": 1.0}])
def test_bad_settings(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        PromptSettings(**bad)  # type: ignore[arg-type]
