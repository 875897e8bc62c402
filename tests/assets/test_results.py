"""Which stages are compared with which."""

from assets.results import pairs_of


def test_each_stage_is_held_against_the_one_below() -> None:
    assert pairs_of(["seasonal_naive", "dlinear"]) == [("dlinear", "seasonal_naive")]
    assert pairs_of(["dlinear"]) == []
    assert pairs_of(["seasonal_naive"]) == []
