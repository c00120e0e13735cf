"""A fast way of denoising is compared with the plain one before anything acts on what it gives."""

import shutil

import numpy as np
import pytest
import torch

from pi0.model.fast_path import FastPathError, require_alike
from pi0.records import Sampling
from tests.policy_parts import TASKS, make_observations, raises_one_line, small_policy

ROLLOUT = Sampling(num_steps=4, noise_scale=0.3)


def act(policy, count=1):
    chunks = policy.act(make_observations(count), TASKS[:count], range(count), ROLLOUT)
    return np.stack([chunk.chain for chunk in chunks])


def claims_to_be_compiled(policy, denoise):
    """A policy whose compiled denoising is a function of the plain one's velocity."""
    network, calls = policy.network, []

    def fast(*arguments):
        calls.append(len(arguments[1]))
        return denoise(network._suffix(*arguments))

    network.denoising, network._denoise = "compiled", fast
    return calls


@pytest.mark.parametrize(
    ("dtype", "scale", "allowed"),
    [
        (torch.float32, 0.5, 1e-3),  # of 1 where no entry is larger
        (torch.float32, 4.0, 4e-3),
        (torch.bfloat16, 4.0, 0.4),
    ],
)
def test_a_difference_may_be_a_share_of_the_largest_entry(dtype, scale, allowed):
    plain = torch.full((1, 5, 6, 9), scale)
    require_alike(plain + 0.9 * allowed, plain, "compiled", dtype)
    with pytest.raises(FastPathError, match=f"allowed in {str(dtype)[6:]}: {allowed:.2g}"):
        require_alike(plain + 1.1 * allowed, plain, "compiled", dtype)


def test_nan_is_not_alike():
    plain = torch.zeros(1, 5, 6, 9)
    with pytest.raises(FastPathError, match="differ by nan"):
        require_alike(plain * torch.nan, plain, "compiled", torch.float32)


def test_a_policy_that_denoises_wrongly_does_not_act_and_names_the_switch():
    policy = small_policy(batch_size=4)
    claims_to_be_compiled(policy, lambda velocity: 1.1 * velocity)
    with pytest.raises(FastPathError) as caught:
        act(policy)
    assert raises_one_line(caught.value)
    assert "compiled and plain denoising differ" in str(caught.value)
    assert "a call of 4" in str(caught.value)
    assert "type --policy.compile false" in str(caught.value)


def test_chunks_are_those_of_the_fast_way_and_every_size_is_compared_once():
    policy, plain = small_policy(batch_size=2), small_policy(batch_size=2)
    calls = claims_to_be_compiled(policy, lambda velocity: velocity + 1e-6)
    first = act(policy)
    assert not np.array_equal(first, act(plain))
    np.testing.assert_allclose(first, act(plain), rtol=0, atol=1e-5)
    assert np.array_equal(act(policy), first)
    assert calls == 2 * [
        2,
        2,
        2,
        2,
    ]  # four denoise steps of two samples, never again for a comparison
    policy.batch_size = 3
    act(policy)
    assert policy._compared == {("compiled", 2), ("compiled", 3)}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch about itself
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # its compiler looks there
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_what_the_compiler_makes_passes_in_bfloat16():
    policy, plain = small_policy(batch_size=2), small_policy(batch_size=2)
    for each in (policy, plain):
        each.network.cast_backbone(torch.bfloat16)
    policy.network.set_denoising("compiled")
    np.testing.assert_allclose(act(policy, 2), act(plain, 2), rtol=0, atol=0.05)
