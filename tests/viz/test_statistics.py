"""Interquartile means and their intervals, against hand-computed numbers, scipy and full enumeration."""

import itertools

import numpy as np
import pytest
from scipy.stats import trim_mean

from mindreel.viz.sweep.statistics import iqm, iqm_interval


def test_the_iqm_of_a_few_numbers():
    assert iqm(np.array([7.0])) == 7
    assert iqm(np.array([1.0, 5.0, 9.0])) == 5  # a quarter of three is less than one: nothing is left out
    assert iqm(np.array([100.0, 2.0, 4.0, -50.0])) == 3
    assert iqm(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 99.0])) == 3.5
    assert iqm(np.array([[1.0, 3.0], [5.0, 5.0]])).tolist() == [2, 5]


@pytest.mark.parametrize("count", range(1, 14))
def test_the_iqm_is_scipys_trimmed_mean(count):
    scores = np.random.default_rng(count).normal(size=(3, count))
    np.testing.assert_allclose(iqm(scores), trim_mean(scores, 0.25, axis=1))


def test_two_runs_of_one_task():
    # Resamples are (0, 0), (0, 1), (1, 0), (1, 1): a quarter of them at each end.
    assert iqm_interval([[0.0, 1.0]]) == (0, 1)
    assert iqm_interval([[0.0, 1.0]], level=0.4) == (0.5, 0.5)


def test_tasks_are_resampled_apart():
    # Both tasks count in every resample, so no interval of their runs' mean reaches either task's own level.
    low, high = iqm_interval([[0.0, 2.0], [1000.0, 1002.0]]) or (0, 0)
    assert 499 < low < high < 503


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_interval_is_that_of_all_resamples(level):
    strata = [[3.0, 14.0, 27.0], [105.0, 131.0, 170.0]]
    pairs = itertools.product(*(itertools.product(scores, repeat=3) for scores in strata))
    exact = trim_mean(np.array([a + b for a, b in pairs]), 0.25, axis=1)
    expected = np.quantile(exact, [(1 - level) / 2, (1 + level) / 2])
    found = iqm_interval(strata, level)
    assert found is not None and found == iqm_interval(strata, level)
    np.testing.assert_allclose(found, expected, atol=2.5)


def test_single_runs_have_no_interval():
    assert iqm_interval([[1.0], [5.0]]) is None
    assert iqm_interval([]) is None
    assert iqm_interval([[1.0], [5.0, 7.0]]) is not None
