"""Predicted bytes are those of the tensors that really exist."""

import pytest
import torch

from pi0.model.expert import projections
from pi0.model.memory import TrainedPart, predict_network
from tests.policy_parts import TASKS, make_observations, small_policy

SAMPLES, STEPS = 3, 4


def predict(policy, dtype=torch.float32, **trained):
    return predict_network(
        policy.network.config,
        dtype=dtype,
        trained=TrainedPart(**trained),
        samples=SAMPLES,
        num_steps=STEPS,
        prefix_tokens=2 * 4 + policy.card.max_prompt_tokens,
    )


@pytest.mark.parametrize("is_pi05", [False, True])
def test_weights_gradients_and_moments_are_those_of_the_parameters(is_pi05):
    policy = small_policy(is_pi05=is_pi05)
    parameters = policy.trainable_parameters(expert_only=True)
    found = predict(policy)
    assert found.weights == sum(p.nbytes for p in policy.network.parameters())
    assert found.gradients == sum(p.nbytes for p in parameters)
    assert found.optimizer == 2 * found.gradients


@pytest.mark.parametrize("expert_only", [True, False])
def test_weights_in_half_precision_are_counted_as_they_are_stored(expert_only):
    policy = small_policy()
    policy.network.cast_backbone(torch.bfloat16, keeps_masters=not expert_only)
    found = predict(policy, torch.bfloat16, has_frozen_prefix=expert_only)
    assert found.weights == sum(p.nbytes for p in policy.network.parameters())


@pytest.mark.parametrize("targets", ["vlm", "expert", "both"])
def test_adapters_are_counted(targets):
    pytest.importorskip("peft")
    policy = small_policy()
    before = sum(p.nbytes for p in policy.network.parameters())
    adapters = policy.add_adapters(rank=2, targets=targets, seed=0)
    frozen = targets == "expert"
    found = predict(policy, has_frozen_prefix=frozen, lora_rank=2, lora_targets=targets)
    assert found.gradients == sum(p.nbytes for p in adapters)
    assert found.weights == before + found.gradients


def test_the_prefix_cache_is_counted():
    policy = small_policy()
    cache = policy.prefix(policy.encode(make_observations(SAMPLES), TASKS[:SAMPLES]))
    assert predict(policy).prefix_per_sample * SAMPLES == cache.num_bytes


def kept_bytes(policy):
    """Return the bytes that a scoring pass keeps besides weights and the prefix cache."""
    inputs = policy.encode(make_observations(SAMPLES), TASKS[:SAMPLES])
    with torch.no_grad():
        cache = policy.prefix(inputs)
    weights = {p.untyped_storage().data_ptr() for p in policy.network.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    card = policy.card
    x = torch.zeros(SAMPLES, STEPS, card.horizon, card.action_dim)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        policy.network.velocity(cache, inputs.state, x, torch.linspace(1, 0.25, STEPS))
    return sum(num_bytes for num_bytes, _ in kept.values())


@pytest.mark.parametrize("is_pi05", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_what_a_scoring_pass_keeps_and_a_little_more(dtype, is_pi05):
    policy = small_policy(is_pi05=is_pi05)
    policy.network.cast_backbone(dtype)
    policy.trainable_parameters(expert_only=True)
    predicted, kept = predict(policy, dtype).activations, kept_bytes(policy)
    # the difference is what the backward pass has on its hands for one layer
    assert kept <= predicted < 1.35 * kept


def test_checkpointing_needs_less():
    policy = small_policy()
    assert predict(policy, checkpoints_layers=True).activations < predict(policy).activations


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_experts_matrices_are_counted_once_more_where_acting_casts_them(dtype):
    policy = small_policy()
    policy.network.cast_backbone(dtype)
    expert = policy.network.core.model.dit
    acting = policy.network._acting_expert()
    own = {parameter.data_ptr() for parameter in expert.parameters()}
    copied = [p.nbytes for p in acting.parameters() if p.data_ptr() not in own]
    assert predict(policy, dtype).cast_expert == sum(copied)


def test_masters_that_are_cast_for_products_are_kept_until_the_backward_pass():
    # one pass more keeps one sample more, the cast matrices are there once
    policy = small_policy()
    one, two = (
        predict_network(
            policy.network.config, dtype=torch.bfloat16, trained=TrainedPart(), samples=samples,
            num_steps=STEPS, prefix_tokens=8,
        )
        for samples in (1, 2)
    )  # fmt: skip
    matrices = list(projections(policy.network.core.model.dit))
    expected = sum(linear.weight.numel() * 2 for linear in matrices)
    assert 2 * one.activations - two.activations == expected
