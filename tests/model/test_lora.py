"""Adapters start without effect, learn, and are merged into what is saved."""

from pathlib import Path

import pytest
import torch

from pi0.checkpoint import load_policy, save_policy
from pi0.model.lora import plain_tensors
from pi0.policy import Pi0Policy
from tests.policy_parts import TASKS, make_observations, small_policy
from tests.test_policy import ROLLOUT, score

pytest.importorskip("peft", reason="peft is not installed; pip install 'pi0-ript[lora]'")


def trained(policy: Pi0Policy, adapters: list[torch.nn.Parameter]) -> None:
    """Take one gradient step that moves every adapter."""
    optimizer = torch.optim.SGD(adapters, lr=0.05)
    for _ in range(2):  # the first step can only move the half that starts at zero
        optimizer.zero_grad()
        score(policy, samples=4)[1].square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("targets", ["vlm", "expert", "both"])
def test_fresh_adapters_change_no_answer(targets):
    plain, adapted = small_policy(), small_policy()
    adapted.add_adapters(rank=2, targets=targets, seed=1)
    with torch.no_grad():
        assert torch.equal(score(adapted)[1], score(plain)[1])


# Two layers of 7 projections with two matrices each; of the last VLM layer only keys and values are used.
@pytest.mark.parametrize(("targets", "count"), [("vlm", 18), ("expert", 28), ("both", 46)])
def test_only_adapters_of_the_targets_are_trained(targets, count):
    policy = small_policy()
    adapters = policy.add_adapters(rank=2, targets=targets, seed=1)
    names = {name for name, p in policy.network.named_parameters() if p.requires_grad}
    assert len(adapters) == len(names) == count
    assert all(".lora_" in name for name in names)
    trained(policy, adapters)
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in adapters)


def test_the_seed_chooses_the_random_half_and_no_global_generator_moves():
    before = torch.get_rng_state()
    first, same, other = (
        small_policy().add_adapters(rank=2, targets="expert", seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first[0], same[0])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_saved_holds_the_adapters_merged(tmp_path: Path):
    policy = small_policy()
    names = set(policy.network.core.state_dict())
    trained(policy, policy.add_adapters(rank=2, targets="both", seed=1))
    assert set(plain_tensors(policy.network.core)) == names

    save_policy(policy, tmp_path)
    loaded = load_policy(tmp_path)

    with torch.no_grad():
        expected = score(policy)[1]
        torch.testing.assert_close(score(loaded)[1], expected, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(score(small_policy())[1], expected, atol=1e-4)


def test_half_precision_keeps_adapters_in_full_precision():
    policy = small_policy()
    policy.network.cast_backbone(torch.bfloat16)
    adapters = policy.add_adapters(rank=2, targets="both", seed=1)
    trained(policy, adapters)
    assert {parameter.dtype for parameter in adapters} == {torch.float32}
    (chunk,) = policy.act(make_observations(1), TASKS[:1], [0], ROLLOUT)
    assert torch.isfinite(torch.from_numpy(chunk.chain)).all()
