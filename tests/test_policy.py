"""Acting and scoring are the same computation, and samples do not depend on each other."""

import dataclasses

import numpy as np
import pytest
import torch

from pi0.records import Sampling, choose_batch_size
from tests.policy_parts import TASKS, make_observation, make_observations, small_policy

ROLLOUT = Sampling(num_steps=4, noise_scale=0.5)
EVALUATION = Sampling(num_steps=4)


@pytest.fixture(scope="module")
def policy():
    return small_policy(batch_size=4)


def same(first, second) -> bool:
    return np.array_equal(first.chain, second.chain) and np.array_equal(
        first.actions, second.actions
    )


def test_chunk_has_the_promised_shapes(policy):
    (chunk,) = policy.act(make_observations(1), TASKS[:1], [7], ROLLOUT)
    assert chunk.actions.shape == (4, 7)
    assert chunk.chain.shape == (5, 6, 9)
    assert (chunk.actions.dtype, chunk.chain.dtype) == (np.float32, np.float32)
    assert np.abs(chunk.actions).max() <= 1
    assert chunk.is_stochastic


def test_actions_are_the_decoded_end_of_the_chain(policy):
    observations = make_observations(1)
    (chunk,) = policy.act(observations, TASKS[:1], [7], EVALUATION)
    decoded = policy.codec.decode_actions(chunk.chain[None, -1], observations[0].proprio[None])
    assert np.array_equal(chunk.actions, decoded[0, :4])
    assert not chunk.is_stochastic


def test_noise_comes_from_the_seed_alone(policy):
    (chunk,) = policy.act(make_observations(1), TASKS[:1], [7], ROLLOUT)
    expected = np.random.Generator(np.random.Philox(7)).standard_normal((5, 6, 9), np.float32)
    assert np.array_equal(chunk.chain[0], expected[0])
    (other,) = policy.act(make_observations(1), TASKS[:1], [8], ROLLOUT)
    assert not np.array_equal(other.chain, chunk.chain)


@pytest.fixture
def num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("num_threads", [1, 2], indirect=True)
@pytest.mark.parametrize("batch_size", [3, 4, 8])
def test_a_sample_never_depends_on_the_others(batch_size, num_threads):
    policy = small_policy(batch_size=batch_size)
    observations, tasks = make_observations(9), [TASKS[i % 4] for i in range(9)]
    together = policy.act(observations, tasks, range(9), ROLLOUT)
    order = np.random.default_rng(0).permutation(9)
    shuffled = policy.act(
        [observations[i] for i in order], [tasks[i] for i in order], order.tolist(), ROLLOUT
    )
    single = [policy.act([observations[i]], [tasks[i]], [i], ROLLOUT)[0] for i in range(9)]

    pairs = [(shuffled[n], together[i]) for n, i in enumerate(order)]
    pairs += [(single[i], together[i]) for i in range(9)]
    if num_threads == 1:  # as in rollouts on a CPU
        assert all(same(*pair) for pair in pairs)
    # Threads divide the rows of a product; some libraries then round a row by its position.
    for one, other in pairs:
        np.testing.assert_allclose(one.chain, other.chain, rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("requested", "device", "expected"),
    [("auto", "cpu", 4), ("auto", "cuda", 64), (7, "cpu", 7), (7, "cuda", 7)],
)
def test_auto_is_a_number_of_the_device(requested, device, expected):
    assert choose_batch_size(requested, device) == expected


def test_padding_is_never_encoded(policy, monkeypatch):
    encoded = []
    encode = policy.codec.encode_images.__func__
    monkeypatch.setattr(
        type(policy.codec),
        "encode_images",
        lambda codec, observations: (
            encoded.append(len(observations)) or encode(codec, observations)
        ),
    )
    policy.act(make_observations(5), [TASKS[0]] * 5, range(5), ROLLOUT)
    assert encoded == [4, 1]  # batch_size is 4


def test_acting_leaves_global_generators_alone(policy):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    policy.act(make_observations(1), TASKS[:1], [7], ROLLOUT)
    assert torch.equal(before, torch.get_rng_state())


def score(policy, sampling=ROLLOUT, samples=16):
    observations, tasks = make_observations(samples), [TASKS[i % 4] for i in range(samples)]
    chunks = policy.act(observations, tasks, range(samples), sampling)
    chains = torch.from_numpy(np.stack([chunk.chain for chunk in chunks]))
    inputs = policy.encode(observations, tasks)
    return chains, policy.transition_means(policy.prefix(inputs), inputs, chains, sampling)


@torch.no_grad()
def test_scoring_finds_the_noise_that_acting_drew(policy):
    chains, means = score(policy)
    z = (chains[:, 1:, :4, :7] - means) / policy.scored_stds(ROLLOUT)[:, None, None]
    for sample in range(len(chains)):
        noise = np.random.Generator(np.random.Philox(sample)).standard_normal((5, 6, 9), np.float32)
        np.testing.assert_allclose(z[sample], noise[1:, :4, :7], atol=2e-4)


@torch.no_grad()
def test_without_noise_the_means_are_the_chain(policy):
    chains, means = score(policy, EVALUATION)
    torch.testing.assert_close(means, chains[:, 1:, :4, :7], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padded_dims_and_unexecuted_steps_take_the_ode_step(policy):
    chains, _ = score(policy, samples=4)
    inputs = policy.encode(make_observations(4), TASKS)
    times = torch.tensor([1.0, 0.75, 0.5, 0.25])
    velocity = policy.network.velocity(policy.prefix(inputs), inputs.state, chains[:, :-1], times)
    off = (chains[:, 1:] - (chains[:, :-1] - velocity / 4)).abs()
    assert off[:, :, 4:].max() < 1e-5
    assert off[:, :, :, 7:].max() < 1e-5
    assert off[:, :, :4, :7].min() > 1e-7


def test_scoring_again_is_bit_equal_with_and_without_gradients(policy):
    policy.trainable_parameters(expert_only=True)
    with_gradients = score(policy)[1]
    assert with_gradients.requires_grad
    with torch.no_grad():
        assert torch.equal(score(policy)[1], with_gradients)


def test_expert_only_training_builds_no_graph_through_the_prefix(policy):
    policy.trainable_parameters(expert_only=True)
    inputs = policy.encode(make_observations(2), TASKS[:2])
    assert not policy.prefix(inputs).keys[0].requires_grad
    policy.trainable_parameters(expert_only=False)
    assert policy.prefix(inputs).keys[0].requires_grad


@torch.no_grad()
def test_flow_matching_loss_packs_draws_without_mixing_them(policy):
    inputs = policy.encode(make_observations(3), TASKS[:3])
    generator = torch.Generator().manual_seed(0)
    actions = torch.randn(3, 6, 9, generator=generator)
    noise = torch.randn(3, 5, 6, 9, generator=generator)
    times = torch.rand(3, 5, generator=generator)
    cache = policy.prefix(inputs)
    packed = policy.flow_matching_loss(cache, inputs, actions, noise, times)
    single = [
        policy.flow_matching_loss(cache, inputs, actions, noise[:, r : r + 1], times[:, r : r + 1])
        for r in range(5)
    ]
    torch.testing.assert_close(packed, torch.stack(single).mean(0))


def test_a_few_supervised_steps_learn_one_chunk():
    policy = small_policy()
    optimizer = torch.optim.Adam(policy.trainable_parameters(expert_only=False), lr=3e-3)
    inputs = policy.encode(make_observations(2), TASKS[:2])
    generator = torch.Generator().manual_seed(0)
    actions = torch.rand(2, 6, 9, generator=generator) * 2 - 1

    def loss():
        noise = torch.randn(2, 16, 6, 9, generator=generator)
        times = torch.rand(2, 16, generator=generator) * 0.999 + 0.001
        return policy.flow_matching_loss(
            policy.prefix(inputs), inputs, actions, noise, times
        ).mean()

    first = loss().item()
    for _ in range(60):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < 0.5 * first


def test_spec_has_the_images_of_the_card(policy):
    spec = policy.spec
    assert (spec.height, spec.width, spec.quality) == (28, 28, "exact")
    assert spec.cameras == ("agentview", "robot0_eye_in_hand")


def test_the_image_reaches_the_network_upright():
    turned, plain = small_policy(rotate_180=True), small_policy(rotate_180=False)
    observation = make_observation(np.random.default_rng(0))
    upright = dataclasses.replace(observation, images=observation.images[:, ::-1, ::-1].copy())
    first = turned.act([observation], TASKS[:1], [0], EVALUATION)[0]
    second = plain.act([upright], TASKS[:1], [0], EVALUATION)[0]
    assert same(first, second)


def test_samples_must_agree(policy):
    with pytest.raises(ValueError, match="2 observations, 1 tasks, 2 seeds"):
        policy.act(make_observations(2), TASKS[:1], [0, 1], ROLLOUT)


def test_no_samples_give_no_action_chunks(policy):
    assert policy.act([], [], [], ROLLOUT) == []
