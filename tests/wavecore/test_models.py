"""The baselines: against brute force and numpy, from the seed alone, blind to the future, groups complete."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from wavecore import stages
from wavecore.config import FeatureSettings, Settings, settings_from
from wavecore.errors import SettingsError, TrainingError
from wavecore.learn.forecast import forecast, predict
from wavecore.model.build import Geometry, build
from wavecore.model.dlinear import DLinear, DLinearSettings, moving_average
from wavecore.model.groups import ParameterGroup, counts, declared
from wavecore.model.seasonal import SeasonalNaive
from wavecore.series.windows import Batch, WindowData

GEOMETRY = Geometry(
    window=48, horizon=12, channels=("a", "b", "c"), season=7, description="Noise.",
    features=FeatureSettings(wavelet="haar", levels=3),
    energy={
        "dwt3": (0.4, 0.3, 0.2, 0.1), "dwt5": (0.3, 0.2, 0.2, 0.1, 0.1, 0.1),
        "packet3": (0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1),
    },
)  # fmt: skip


def settings_with(**model: object) -> Settings:
    return settings_from(
        {
            "pipeline": {"benchmarks": ["tiny"], "stages": ["dlinear"]},
            "stages": {"dlinear": {"model": model}} if model else {},
            "families": {
                "time_llm": {
                    "model": {
                        "llm_layers": 1,
                        "d_ff": 8,
                        "prototypes": 8,
                        "prompt": {"tokens": 200},
                        "budget": {"shares": [0.5]},
                        "sparse": {"count": 5},
                    }
                }
            },
        }
    )


def batch_of(x: torch.Tensor, horizon: int) -> Batch:
    y = torch.zeros(len(x), horizon, x.shape[2])
    return Batch(x, y, torch.ones_like(y, dtype=torch.bool), torch.arange(len(x)))


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def window_data(n: int = 200, seed: int = 0) -> WindowData:
    return WindowData(noise(n, 3, seed=seed), torch.ones(n, 3, dtype=torch.bool), GEOMETRY.window, GEOMETRY.horizon)


@pytest.mark.parametrize(("window", "horizon", "season"), [(10, 3, 4), (10, 4, 4), (10, 11, 4), (7, 5, 7), (5, 9, 1)])
def test_the_seasonal_naive_repeats_the_last_season(window: int, horizon: int, season: int) -> None:
    x = noise(3, window, 2)
    got = SeasonalNaive(window, horizon, season)(batch_of(x, horizon))
    assert got.shape == (3, horizon, 2)
    for b in range(3):
        for h in range(horizon):
            row = window + h
            while row >= window:
                row -= season
            assert torch.equal(got[b, h], x[b, row])


@pytest.mark.parametrize("season", [4, 49])
def test_the_last_value_is_repeated_whatever_the_season(season: int) -> None:
    x = noise(3, GEOMETRY.window, 3)
    model = build(stages.get("last_value"), replace(GEOMETRY, season=season), settings_with(), "tiny", 0)
    got = model(batch_of(x, GEOMETRY.horizon))
    assert torch.equal(got, x[:, -1:].expand(-1, GEOMETRY.horizon, -1))


@pytest.mark.parametrize("season", [0, 49])
def test_a_season_longer_than_the_window_is_an_error(season: int) -> None:
    with pytest.raises(SettingsError, match=f"season: {season} steps.*window of 48"):
        build(stages.get("seasonal_naive"), replace(GEOMETRY, season=season), settings_with(), "tiny", 0)


@pytest.mark.parametrize("kernel", [1, 3, 25])
def test_the_moving_average_is_numpys(kernel: int) -> None:
    x = noise(2, 3, 40).double()
    half = kernel // 2
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (half, half)), mode="edge")
    want = np.apply_along_axis(lambda row: np.convolve(row, np.full(kernel, 1 / kernel), "valid"), -1, padded)
    np.testing.assert_allclose(moving_average(x, kernel).numpy(), want, atol=1e-12)


@pytest.mark.parametrize("individual", [False, True])
@pytest.mark.parametrize("start", ["mean", "random"])
def test_dlinear_is_the_sum_of_two_affine_maps(individual: bool, start: str) -> None:
    model = build(
        stages.get("dlinear"), GEOMETRY, settings_with(individual=individual, start=start, kernel=5), "tiny", 3
    )
    assert isinstance(model, DLinear)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(parameter.numel()))
    x = noise(4, 48, 3)
    trend = moving_average(x.transpose(1, 2), 5).numpy()
    rest = x.transpose(1, 2).numpy() - trend
    want = np.zeros((4, 12, 3))
    for c in range(3):
        for part, time_map in ((trend, model.trend), (rest, model.remainder)):
            weight, bias = time_map.weight.detach().numpy(), time_map.bias.detach().numpy()
            if individual:
                weight, bias = weight[c], bias[c]
            want[:, :, c] += part[:, c] @ weight.T + bias
    np.testing.assert_allclose(model(batch_of(x, 12)).detach().numpy(), want, atol=1e-4)


def test_dlinear_starts_at_the_window_mean() -> None:
    x = noise(4, 48, 3)
    model = build(stages.get("dlinear"), GEOMETRY, settings_with(), "tiny", 0)
    want = x.mean(dim=1, keepdim=True).expand(4, 12, 3)
    torch.testing.assert_close(model(batch_of(x, 12)).detach(), want, atol=1e-5, rtol=0)


def test_weights_are_a_function_of_the_seed_alone() -> None:
    def weights(seed: int) -> torch.Tensor:
        model = build(stages.get("dlinear"), GEOMETRY, settings_with(start="random"), "tiny", seed)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.manual_seed(5)
    first = weights(0)
    state = torch.random.get_rng_state()
    assert torch.equal(first, weights(0))
    assert not torch.equal(first, weights(1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert 0.8 / 48**0.5 < first.abs().max() <= 1 / 48**0.5


@pytest.mark.parametrize("model", [{"kernel": 4}, {"kernel": 0}, {"kernal": 5}, {"start": "zero"}])
def test_model_settings_are_checked(model: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=r"stages\.dlinear\.model"):
        build(stages.get("dlinear"), GEOMETRY, settings_with(**model), "tiny", 0)


def test_the_seasonal_naive_has_nothing_to_set() -> None:
    settings = settings_from(
        {
            "pipeline": {"benchmarks": ["tiny"], "stages": ["seasonal_naive"]},
            "stages": {"seasonal_naive": {"model": {"kernel": 3}}},
        }
    )
    with pytest.raises(SettingsError, match="unknown key 'kernel'"):
        build(stages.get("seasonal_naive"), GEOMETRY, settings, "tiny", 0)


def test_an_unknown_family_is_an_error() -> None:
    with pytest.raises(SettingsError, match="unknown family 'oracle'"):
        build(replace(stages.get("dlinear"), family="oracle"), GEOMETRY, settings_with(), "tiny", 0)


def finished(stage: str, settings: Settings) -> torch.nn.Module:
    """The model as it forecasts: with a regression, where it has one."""
    model = build(stages.get(stage), GEOMETRY, settings, "tiny", 0)
    linear = getattr(model, "linear", None)
    if linear is not None:
        linear.become(noise(12, 48, seed=1), noise(12, seed=2))
    return model


def test_a_regression_without_weights_is_an_error() -> None:
    model = build(stages.get("ridge"), GEOMETRY, settings_with(), "tiny", 0)
    with pytest.raises(TrainingError, match="no weights"):
        predict(model, window_data().batch(np.array([48])))


@pytest.mark.parametrize("stage", stages.names())
def test_values_after_the_window_change_no_forecast(stage: str) -> None:
    model = finished(stage, settings_with())
    data = window_data()
    for origin in (48, 100, 188):
        values = data.values.clone()
        values[origin:] = 1e4
        changed = replace(data, values=values)
        one = predict(model, data.batch(np.array([origin])))
        np.testing.assert_array_equal(one, predict(model, changed.batch(np.array([origin]))))
        np.testing.assert_allclose(one, predict(model, changed.future_batch(origin)), atol=1e-6)


# The two whose padding is attended to, as the published model has it: there a forecast does depend on its batch.
UNMASKED = [name for name in stages.names() if stages.get(name).switches.get("attention_mask") is False]


@pytest.mark.parametrize("stage", [name for name in stages.names() if name not in UNMASKED])
def test_forecasts_do_not_depend_on_batch_or_order(stage: str) -> None:
    assert UNMASKED == ["reference", "base.unmasked"]
    model = finished(stage, settings_with(start="random"))
    data = window_data()
    language = stages.get(stage).family == "time_llm"
    origins = np.arange(48, 189, 12 if language else 1)

    def all_of(order: np.ndarray, batch: int) -> np.ndarray:
        found = {int(o): y for os, ys in forecast(model, data, order, batch) for o, y in zip(os, ys, strict=True)}
        return np.stack([found[int(o)] for o in origins])

    want = all_of(origins, len(origins))
    assert want.shape == (len(origins), 12, 3)
    assert want.dtype == np.float32
    for order, batch in ((origins, 1), (origins, 7), (np.random.default_rng(0).permutation(origins), 32)):
        # Float32 over the layers of a language model, against one linear map.
        np.testing.assert_allclose(all_of(order, batch), want, atol=4e-6 if language else 1e-6)


def test_at_full_length_only_float32_rounding_is_left_between_batch_sizes() -> None:
    # Sums of 512 terms: batches of different size take different matrix routines, which may differ by the last bits.
    # Measured on ETTh1: up to 1.4e-6, where float32 itself lies 1.3e-6 from float64. So 1e-6 does not hold here.
    long = Geometry(window=512, horizon=96, channels=tuple("abcdefg"), season=24)
    model = build(stages.get("dlinear"), long, settings_with(start="random"), "tiny", 0)
    data = WindowData(noise(700, 7), torch.ones(700, 7, dtype=torch.bool), 512, 96)
    origins = np.arange(512, 605)
    want = np.concatenate([y for _, y in forecast(model, data, origins, 64)])
    for batch in (1, 2, 7, 93):
        got = np.concatenate([y for _, y in forecast(model, data, origins, batch)])
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6)


def test_forecasting_leaves_modes_and_gradients_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    model[1].eval()

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, batch: Batch) -> torch.Tensor:
            assert not self.training
            assert torch.is_inference_mode_enabled()
            return batch.y

    wrapped = Wrapped()
    steps = forecast(wrapped, window_data(), np.arange(60, 70), 5)
    next(steps)
    assert not torch.is_inference_mode_enabled()
    assert wrapped.training
    assert model[0].training
    assert not model[1].training


def test_an_origin_out_of_range_stops_a_forecast() -> None:
    model = build(stages.get("seasonal_naive"), GEOMETRY, settings_with(), "tiny", 0)
    with pytest.raises(Exception, match="origin 189 is out of range"):
        list(forecast(model, window_data(), np.array([60, 189]), 1))


def test_groups_are_counted() -> None:
    model = build(stages.get("dlinear"), GEOMETRY, settings_with(), "tiny", 0)
    one = {"tensors": 2, "elements": 48 * 12 + 12}
    assert counts(model) == {"trend": one, "remainder": one, "frozen": {"tensors": 0, "elements": 0}}
    naive = build(stages.get("seasonal_naive"), GEOMETRY, settings_with(), "tiny", 0)
    assert counts(naive) == {"frozen": {"tensors": 0, "elements": 0}}


class Grouped(nn.Module):
    """Two weights and whatever groups a test gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
        self.groups: tuple[ParameterGroup, ...] = ()

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return self.groups


def test_every_weight_stands_in_exactly_one_group() -> None:
    model = Grouped()
    one, two, both = (model.one,), (model.two,), (model.one, model.two)
    cases: list[tuple[tuple[ParameterGroup, ...], str]] = [
        ((ParameterGroup("a", one),), "two is trainable but in no parameter group"),
        ((ParameterGroup("a", both), ParameterGroup("b", two)), "two stands in the parameter groups 'a' and 'b'"),
        ((ParameterGroup("a", both), ParameterGroup("b", ())), "'b' is empty"),
        ((ParameterGroup("a", one), ParameterGroup("a", two)), "two parameter groups are called 'a'"),
        ((ParameterGroup("a", (*both, nn.Parameter(torch.ones(1)))),), "a weight of another model"),
    ]
    for groups, message in cases:
        model.groups = groups
        with pytest.raises(TrainingError, match=message):
            declared(model)
    model.groups = (ParameterGroup("a", one), ParameterGroup("b", two))
    assert [g.name for g in declared(model)] == ["a", "b"]
    model.two.requires_grad_(False)
    with pytest.raises(TrainingError, match="two, which is not trainable"):
        declared(model)
    with pytest.raises(TrainingError, match="declares no parameter groups"):
        declared(nn.Linear(1, 1))


def test_dlinear_settings_refuse_an_even_kernel() -> None:
    with pytest.raises(ValueError, match="not an odd number"):
        DLinearSettings(kernel=24)


def test_a_variant_may_have_steps_and_seeds_of_its_own_on_one_benchmark() -> None:
    """How long it is trained is no part of what makes a variant; what it is stays in stages.py."""

    def given(place: str, **own: object) -> Settings:
        mapping = {"pipeline": {"benchmarks": ["b"], "stages": ["base"]}, "stages": {"base": {"train": {"steps": 7}}}}
        if place == "stages":
            mapping["stages"] |= {"base.plain": own}  # type: ignore[operator]
        else:
            mapping["overrides"] = {"benchmarks": {"b": {"base.plain": own}}}
        return settings_from(mapping)

    settings = given("overrides", train={"steps": 5}, seeds=[3])
    assert settings.train_of("b", "base.plain").steps == 5
    assert settings.train_of("b", "base").steps == settings.train_of("other", "base.plain").steps == 7
    assert settings.seeds_of("b", "base.plain") == (0, 3)
    with pytest.raises(SettingsError, match=r"'base\.plain' is a variant"):
        given("overrides", model={"d_ff": 8})
    with pytest.raises(SettingsError, match=r"'base\.plain' is a variant"):
        given("overrides", online={"learning_rate": 0.01})
    with pytest.raises(SettingsError, match=r"'base\.plain' is a variant"):
        given("stages", train={"steps": 5})
