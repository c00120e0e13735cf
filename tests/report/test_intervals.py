"""Success rates come with intervals; two policies are compared episode by episode."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pi0.ript.report.intervals import (
    design_effect,
    holm,
    mcnemar,
    paired_change,
    success_rate,
    wilson,
)


def test_wilson_interval_of_half_out_of_ten():
    # p = 0.5, n = 10, z^2 = 3.8415: center = (0.5 + 3.8415 / 20) / 1.38415 = 0.5;
    # half = 1.959964 * sqrt(0.25 / 10 + 3.8415 / 400) / 1.38415 = 1.959964 * 0.186021 / 1.38415 = 0.263407.
    assert wilson(5, 10) == pytest.approx((0.236593, 0.763407), abs=1e-6)


def test_wilson_interval_of_no_success_starts_at_zero_but_does_not_end_there():
    # p = 0: low = 0; high = z^2 / n / (1 + z^2 / n) = 3.8415 / (10 + 3.8415) = 0.277533.
    assert wilson(0, 10) == pytest.approx((0.0, 0.277533), abs=1e-6)
    assert wilson(10, 10) == pytest.approx((1 - 0.277533, 1.0), abs=1e-6)


@given(st.lists(st.booleans(), min_size=1, max_size=200))
def test_interval_holds_the_rate_and_stays_within_zero_and_one(outcomes):
    rate = success_rate(outcomes)
    assert 0 <= rate.low <= rate.rate + 1e-12
    assert rate.rate - 1e-12 <= rate.high <= 1


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_interval_of_failures_mirrors_the_one_of_successes(outcomes):
    rate, mirror = success_rate(outcomes), success_rate([not outcome for outcome in outcomes])
    assert (1 - mirror.high, 1 - mirror.low) == pytest.approx((rate.low, rate.high))


@pytest.mark.parametrize(
    ("gained", "lost", "p_value"),
    [
        (0, 0, 1.0),  # nothing changed: no evidence
        (1, 0, 1.0),  # 2 * (1 / 2)
        (5, 0, 0.0625),  # 2 * (1 / 32)
        (0, 5, 0.0625),
        (5, 1, 0.21875),  # 2 * (1 + 6) / 64
        (3, 3, 1.0),  # 2 * (1 + 6 + 15 + 20) / 64 > 1
    ],
)
def test_mcnemar_counts_the_tail_of_the_binomial(gained, lost, p_value):
    assert mcnemar(gained, lost) == p_value


def test_paired_change_by_hand():
    # 8 pairs: 4 gained, 1 lost, so the difference is 3 / 8.
    # Bonett-Price: up = 5 / 10, down = 2 / 10, center 0.3,
    # half = 1.959964 * sqrt((0.7 - 0.09) / 10) = 1.959964 * 0.246982 = 0.484075.
    before = [False] * 5 + [True] * 3
    after = [True] * 4 + [False] + [False] + [True] * 2
    change = paired_change(before, after)
    assert (change.num_gained, change.num_lost, change.difference) == (4, 1, 0.375)
    assert (change.low, change.high) == pytest.approx((-0.184075, 0.784075), abs=1e-6)
    assert change.p_value == 0.375  # 2 * (1 + 5) / 32


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_swapping_before_and_after_flips_the_change(pairs):
    before, after = zip(*pairs, strict=True)
    forth, back = paired_change(before, after), paired_change(after, before)
    assert forth.difference == -back.difference
    assert (forth.low, forth.high) == pytest.approx((-back.high, -back.low))
    assert forth.p_value == back.p_value


def test_comparison_of_unequal_numbers_is_refused():
    with pytest.raises(AssertionError, match="not paired: 1 and 2"):
        paired_change([True], [True, False])


def test_rates_and_changes_as_text():
    assert str(success_rate([True] * 5 + [False] * 5)) == "50.0% (5/10, 95 % [23.7%, 76.3%])"
    assert str(paired_change([False], [True])).startswith("+100.0 points (95 % [")


def test_design_effect_of_two_states_by_hand():
    # mean 1/2; sums of deviations 1 (two successes), -1/2 - 1/2 = -1 (two failures);
    # between = 2 / 1 * (1 + 1) = 4, independent = 4 / 4 = 1: as if every state had been tried half a time
    assert design_effect([1, 1, 0, 0], ["a", "a", "b", "b"]) == 4.0
    # one of each per state: states do not differ, and an effect below 1 is not claimed
    assert design_effect([1, 0, 1, 0], ["a", "a", "b", "b"]) == 1.0


def test_three_states_that_decide_everything_are_three_episodes_and_no_more():
    # 2 of 3 states always succeed; mean 2/3, sums 5/3, 5/3, -10/3: between = 3/2 * (25 + 25 + 100) / 9 = 25,
    # independent = 15 * 2/9 = 10/3: effect 7.5, so 15 episodes count as 2
    outcomes, states = [True] * 10 + [False] * 5, [n // 5 for n in range(15)]
    assert design_effect(outcomes, states) == pytest.approx(7.5)
    rate = success_rate(outcomes, states)
    assert (rate.num_successes, rate.n, rate.rate) == (10, 15, 10 / 15)
    assert (rate.low, rate.high) == pytest.approx(wilson(10 / 7.5, 2))


def test_all_successes_count_as_many_as_there_are_states():
    rate = success_rate([True] * 40, [n % 20 for n in range(40)])
    assert (rate.low, rate.high) == wilson(20, 20)


@pytest.mark.parametrize("states", [None, range(8), [3] * 8])
def test_without_shared_states_and_for_a_single_one_intervals_are_plain(states):
    before, after = [True, False] * 4, [True] * 8
    assert success_rate(before, states) == success_rate(before)
    assert paired_change(before, after, states) == paired_change(before, after)


def test_change_that_states_decide_is_less_sure_and_its_test_the_same():
    before, after = [False] * 20, [n < 10 for n in range(20)]
    alone, shared = (
        paired_change(before, after),
        paired_change(before, after, [n // 5 for n in range(20)]),
    )
    assert (shared.difference, shared.p_value) == (alone.difference, alone.p_value)
    assert shared.low < alone.low
    assert shared.high > alone.high


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=60))
def test_shared_states_never_make_an_interval_narrower(episodes):
    outcomes, states = zip(*episodes, strict=True)
    plain, shared = success_rate(outcomes), success_rate(outcomes, states)
    assert shared.high - shared.low >= plain.high - plain.low - 1e-12


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
