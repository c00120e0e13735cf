"""Statistics beside LIBERO's and the first action chunk: what fits passes, each kind of slip is named."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pi0.codec import Codec
from pi0.norm_stats import NormStats
from pi0.policy import Pi0Policy
from pi0.ript.diagnose.fit import (
    LIBERO_STATE,
    FirstChunk,
    action_ranges,
    check_fit,
    first_chunk,
    state_ranges,
)
from tests.policy_parts import TASKS, make_observations, small_card, small_policy

MEAN, STD = (np.array(column) for column in zip(*LIBERO_STATE.values(), strict=True))
ACTIONS = {"mean": np.zeros(7), "std": np.array([0.3] * 6 + [1.0])}


def policy_with(state_mean: np.ndarray, state_std: np.ndarray, **card: object) -> Pi0Policy:
    policy = small_policy()
    stats = NormStats(state={"mean": state_mean, "std": state_std}, actions=ACTIONS)
    policy.codec = Codec(card=small_card(extra_delta=False, **card), stats=stats)
    policy.card = policy.codec.card
    return policy


def a_chunk(**changes: object) -> FirstChunk:
    fits = FirstChunk(
        state=np.zeros(8),
        actions=np.full((4, 7), 0.2, dtype=np.float32),
        noise_effect=0.1,
        image_effect=0.1,
        instruction_effect=0.1,
    )
    return replace(fits, **changes)


def names_of(policy: Pi0Policy, chunk: FirstChunk) -> list[str]:
    (observation,) = make_observations(1)
    return [finding.name for finding in check_fit(policy, observation, chunk)]


def test_libero_s_own_statistics_fit():
    policy = policy_with(MEAN, STD)

    assert names_of(policy, a_chunk()) == []
    assert [entry.name for entry in state_ranges(policy)] == list(LIBERO_STATE)


@pytest.mark.parametrize(
    ("factor", "index"),
    [
        (1000.0, 2),  # millimeters: z is 765 instead of 0.76
        (180.0 / np.pi, 3),  # degrees: 170 instead of 2.97
    ],
)
def test_another_unit_is_named_by_the_number_it_concerns(factor, index):
    mean, std = MEAN.copy(), STD.copy()
    mean[index] *= factor
    std[index] *= factor

    (wrong,) = [entry for entry in state_ranges(policy_with(mean, std)) if not entry.fits]

    assert wrong.name == list(LIBERO_STATE)[index]


def test_a_task_that_hardly_moves_fits_and_a_number_that_never_changes_does_not():
    assert all(entry.fits for entry in state_ranges(policy_with(MEAN, STD / 50.0)))
    assert not any(entry.fits for entry in state_ranges(policy_with(MEAN, STD * 0.0)))


def test_quantiles_give_the_deviations_of_a_normal_distribution():
    policy = small_policy()
    quantiles = {"q01": MEAN - 2.326 * STD, "q99": MEAN + 2.326 * STD}
    card = small_card(extra_delta=False, norm_mode="quantile")
    stats = NormStats(state=quantiles, actions={"q01": -np.ones(7), "q99": np.ones(7)})
    policy.card, policy.codec = card, Codec(card=card, stats=stats)

    spreads = [entry.spread for entry in state_ranges(policy)]

    np.testing.assert_allclose(spreads, STD, rtol=1e-3)


def test_relative_actions_are_compared_with_nothing_but_their_gripper():
    policy = small_policy()

    known = [entry.name for entry in action_ranges(policy) if entry.expected is not None]

    assert policy.card.extra_delta
    assert known == ["gripper"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"state": np.array([0.0, 0, 25.0, 0, 0, 0, 0, 0])}, "state of the observation"),
        ({"actions": np.ones((4, 7), dtype=np.float32)}, "first action chunk"),
        ({"image_effect": 0.0}, "images"),
        ({"instruction_effect": 0.0}, "instruction"),
    ],
)
def test_each_slip_of_a_first_chunk_is_named(changes, name):
    assert names_of(policy_with(MEAN, STD), a_chunk(**changes)) == [name]


def test_a_policy_that_does_not_see_is_told_from_one_that_does():
    policy = policy_with(MEAN, STD)
    (observation,) = make_observations(1)
    sighted = first_chunk(policy, observation, TASKS[0], seed=0)
    with torch.no_grad():
        policy.network.core.model.vlm.multi_modal_projector.linear.weight.zero_()
    blind = first_chunk(policy, observation, TASKS[0], seed=0)

    assert sighted.image_effect > 0.0
    assert blind.image_effect == 0.0
    assert blind.noise_effect > 0.0
