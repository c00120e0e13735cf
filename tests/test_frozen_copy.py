"""A frozen copy acts as its policy did when it was made, and shares what is not trained."""

import numpy as np
import pytest
import torch

from pi0.frozen_copy import copy_weights, make_frozen_copy, trained_weights
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from tests.policy_parts import TASKS, make_observations, small_policy

SAMPLING = Sampling(num_steps=3, noise_scale=0.5)


def act(policy: Pi0Policy) -> np.ndarray:
    chunks = policy.act(make_observations(4), TASKS, [1, 2, 3, 4], SAMPLING)
    return np.stack([chunk.chain for chunk in chunks])


def train_a_little(policy: Pi0Policy) -> None:
    with torch.no_grad():
        for weight in trained_weights(policy):
            weight.add_(0.01)


@pytest.fixture(params=["expert", "everything", "adapters"])
def policy(request: pytest.FixtureRequest) -> Pi0Policy:
    policy = small_policy()
    if request.param == "adapters":
        policy.add_adapters(rank=2, targets="both", seed=0)
    else:
        policy.trainable_parameters(expert_only=request.param == "expert")
    return policy


def test_a_twin_gives_the_same_bits_and_keeps_giving_them_while_its_policy_is_trained(
    policy: Pi0Policy,
):
    before = act(policy)
    frozen_copy = make_frozen_copy(policy)
    np.testing.assert_array_equal(act(frozen_copy), before)

    train_a_little(policy)

    assert np.abs(act(policy) - before).max() > 1e-4
    np.testing.assert_array_equal(act(frozen_copy), before)


def test_a_twin_that_is_given_the_weights_of_its_policy_answers_like_it(policy: Pi0Policy):
    frozen_copy = make_frozen_copy(policy)
    train_a_little(policy)

    copy_weights(trained_weights(frozen_copy), trained_weights(policy))

    np.testing.assert_array_equal(act(frozen_copy), act(policy))


def test_only_what_is_trained_takes_memory_again(policy: Pi0Policy):
    frozen_copy = make_frozen_copy(policy)

    own = dict(policy.network.named_parameters())
    for name, parameter in frozen_copy.network.named_parameters():
        is_shared = parameter.data_ptr() == own[name].data_ptr()
        assert is_shared != own[name].requires_grad, name
    buffers = dict(policy.network.named_buffers())
    for name, buffer in frozen_copy.network.named_buffers():
        assert buffer.data_ptr() == buffers[name].data_ptr(), name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch about itself
def test_a_twin_of_a_compiled_policy_runs_a_program_of_its_own():
    policy = small_policy()
    policy.trainable_parameters(expert_only=True)
    policy.network.set_denoising("compiled")

    frozen_copy = make_frozen_copy(policy)

    assert frozen_copy.network.denoising == "compiled"
    assert frozen_copy.network._denoise is not policy.network._denoise
