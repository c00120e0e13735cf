"""What a graph computes lies in memory of its own, which is filled before every replay.

Without a GPU a recorder stands in that computes again from that memory: whatever is not copied into it is wrong.
"""

from collections import Counter

import numpy as np
import pytest
import torch

from pi0.frozen_copy import make_frozen_copy
from pi0.model import denoise_graphs
from pi0.model.denoise_graphs import DenoiseGraphs
from pi0.records import Sampling
from tests.policy_parts import TASKS, make_observations, small_policy

STEPS = 4


def replayed(compute):
    """Stands in for a graph: the numbers are those of the memory at the time of the replay."""
    result = compute().clone()
    return lambda: result.copy_(compute()), result


def graphed(policy, record=replayed):
    network = policy.network
    network.denoising, network._denoise = "graphs", DenoiseGraphs(network._suffix, record)
    return policy


def act(policy, number=0, guidance=1.0):
    observations = make_observations(4)[number:]
    count = len(observations)
    sampling = Sampling(num_steps=STEPS, noise_scale=0.3, guidance=guidance)
    seeds = range(number, number + count)
    chunks = policy.act(observations, TASKS[:count], seeds, sampling)
    return np.stack([chunk.chain for chunk in chunks])


@pytest.mark.parametrize("is_pi05", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_call_gives_what_plain_denoising_gives(dtype, is_pi05):
    policy, plain = (small_policy(batch_size=4, is_pi05=is_pi05) for _ in range(2))
    for each in (policy, plain):
        each.network.cast_backbone(dtype)
    graphed(policy)
    for number in (0, 1, 2, 1):
        assert np.array_equal(act(policy, number), act(plain, number))


def test_guidance_mixes_two_results_of_one_graph():
    policy, plain = small_policy(), small_policy()
    for each in (policy, plain):
        with torch.no_grad():
            each.network.add_unconditional().fill_(0.5)
    graphed(policy)
    assert np.array_equal(act(policy, guidance=2.0), act(plain, guidance=2.0))
    assert np.array_equal(act(policy, guidance=0.0), act(plain, guidance=0.0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_were_trained_act(dtype):
    policy, plain = small_policy(), small_policy()
    for each in (policy, plain):
        each.network.cast_backbone(dtype)
    graphed(policy)
    before = act(policy)
    for each in (policy, plain):
        with torch.no_grad():
            for parameter in each.network.expert_parameters():
                parameter.mul_(1.1)
    assert np.array_equal(act(policy), act(plain))
    assert not np.array_equal(act(policy), before)


def test_a_graph_is_recorded_once_per_size():
    recorded = []

    def record(compute):
        recorded.append(1)
        return replayed(compute)

    policy = graphed(small_policy(batch_size=4), record)
    act(policy)
    act(policy, 2)
    assert len(recorded) == 1  # both calls are padded to four
    policy.batch_size = 2
    act(policy)
    assert len(recorded) == 2


def test_the_prefix_is_copied_once_per_policy_step(monkeypatch):
    policy, copied = graphed(small_policy()), Counter()
    overwrite = denoise_graphs._overwrite

    def counted(mine, theirs):
        copied["layout" if hasattr(mine, "buffers") else "arguments"] += 1
        overwrite(mine, theirs)

    act(policy)
    monkeypatch.setattr(denoise_graphs, "_overwrite", counted)
    act(policy)
    act(policy)
    assert copied == {"layout": 2, "arguments": 2 * STEPS}


def test_a_frozen_copy_records_its_own_weights():
    policy = small_policy()
    policy.trainable_parameters(expert_only=True)
    policy.network.set_denoising("graphs")
    frozen_copy = make_frozen_copy(policy)
    assert frozen_copy.network.denoising == "graphs"
    assert frozen_copy.network._denoise is not policy.network._denoise
    denoise = frozen_copy.network._denoise
    assert isinstance(denoise, DenoiseGraphs)
    assert denoise._suffix.__self__ is frozen_copy.network


@pytest.mark.gpu
@pytest.mark.parametrize("is_pi05", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_of_a_gpu_give_what_plain_denoising_gives(dtype, is_pi05):
    policies = []
    for way in ("graphs", "plain"):
        policy = small_policy(batch_size=4, is_pi05=is_pi05)
        policy.network.cast_backbone(dtype)
        policy.device = torch.device("cuda")
        policy.network.to(policy.device).set_denoising(way)
        policies.append(policy)
    for number in (0, 2, 3, 0):
        np.testing.assert_allclose(*(act(policy, number) for policy in policies), rtol=0, atol=1e-5)
