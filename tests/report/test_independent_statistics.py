"""Wilson, McNemar and Holm against packages that share no line with ours: robostats and scipy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pi0.ript.report.intervals import holm, mcnemar, wilson

intervals = pytest.importorskip("robostats.intervals", reason="robostats is in the dev extra")
kmodel = pytest.importorskip("robostats.kmodel")


@given(st.integers(1, 500), st.data())
def test_wilson(n, data):
    successes = data.draw(st.integers(0, n))
    theirs = intervals.wilson(successes, n)
    assert wilson(successes, n) == pytest.approx((theirs.lower, theirs.upper), abs=1e-12)


@given(st.integers(0, 200), st.integers(0, 200))
def test_mcnemar(gained, lost):
    expected = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(expected, rel=1e-9)


@given(st.lists(st.floats(0, 1), max_size=40))
def test_holm(p_values):
    assert holm(p_values) == pytest.approx(kmodel.adjust(p_values, "holm"))
