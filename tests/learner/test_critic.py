"""Values of policy steps: learned, turned into advantages, stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pi0.ript.config.sections import OptimizerConfig, ValueConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.learner.critic import Critic, ValueHead, explained_variance, num_weights
from pi0.ript.learner.scorer import Scorer
from pi0.ript.learner.stats import CriticStats
from pi0.ript.types import Batch
from tests.learner.chain import GAMMA, VALUES, WIDTH, draw_chain_batch, features_of
from tests.learner.samples import SAMPLING, draw_batch, weights_of
from tests.learner.updates import ALGO, train
from tests.policy_parts import raises_one_line, small_policy

READY = ValueConfig(gamma=GAMMA, warmup_batches=0)
ALL_LINKS = torch.cat([features_of(np.arange(3)), torch.arange(3)[:, None] / 4], dim=1)


def new_critic(config: ValueConfig = READY, seed: int = 0) -> Critic:
    return Critic(config, WIDTH, OptimizerConfig(), seed)


def judge(critic: Critic, num_groups: int = 6, seed: int = 0) -> tuple[Batch, Batch, CriticStats]:
    """Return a batch without and with the critic, and what it made of it."""
    batch, features, samples = draw_chain_batch(num_groups, seed)
    judged, stats = critic.judge(batch, np.arange(len(batch)), features, samples, SINGLE_PROCESS)
    return batch, judged, stats


class Known(Critic):
    """A critic whose values are given, link by link."""

    def __init__(self, values: np.ndarray, config: ValueConfig = READY) -> None:
        super().__init__(config, WIDTH, OptimizerConfig(), seed=0)
        self._known = values

    def values(self, inputs: Tensor) -> np.ndarray:
        return self._known[(4 * inputs[:, -1]).long().numpy()]


class TestLearning:
    def test_a_new_head_expects_nothing(self):
        assert new_critic().values(ALL_LINKS).tolist() == [0.0, 0.0, 0.0]

    def test_it_learns_the_values_of_a_chain(self):
        critic, found = new_critic(), []
        for seed in range(24):
            *_, stats = judge(critic, 12, seed)
            found.append(critic.values(ALL_LINKS))

        # 48 episodes see the last link about 22 times, so that a value follows them by 0.09; twelve batches by 0.03.
        assert np.mean(found[12:], axis=0) == pytest.approx(VALUES, abs=0.08)
        assert stats.explained_variance > 0.1

    def test_advantages_come_from_the_head_as_it_was_before(self):
        # Had it learned first, values of 0 would already have moved towards the outcomes.
        *_, stats = judge(new_critic())

        assert stats.mean == 0.0
        assert stats.explained_variance == 0.0

    def test_its_weights_are_as_many_as_the_plan_says(self):
        assert sum(p.numel() for p in ValueHead(WIDTH, 0).parameters()) == num_weights(WIDTH)

    def test_a_feature_that_is_not_finite_ends_the_update(self):
        batch, features, samples = draw_chain_batch(2)
        features[3, 1] = torch.nan
        critic = new_critic()

        with pytest.raises(FloatingPointError, match="features of the critic not finite"):
            critic.judge(batch, np.arange(len(batch)), features, samples, SINGLE_PROCESS)


def test_explained_variance_is_one_for_outcomes_and_zero_for_a_constant():
    outcomes = np.array([0.0, 1.0, 1.0, 0.0])

    assert explained_variance(outcomes, outcomes) == 1.0
    assert explained_variance(outcomes, np.full(4, 0.3)) == 0.0
    assert explained_variance(outcomes, 1 - outcomes) == -3.0
    assert explained_variance(np.ones(4), outcomes) is None


class TestAdvantages:
    def test_while_it_warms_up_nothing_changes(self):
        critic = new_critic(replace(READY, warmup_batches=2))

        for expected in (True, True, False):
            batch, judged, stats = judge(critic)
            assert np.array_equal(judged.advantages, batch.advantages) is expected
            assert (stats.shift == 0.0) is expected

    def test_as_in_ppo_they_are_standardized_generalized_advantages(self):
        _, judged, _ = judge(Known(VALUES, replace(READY, baseline="none")))

        assert judged.advantages.mean() == pytest.approx(0.0, abs=1e-6)
        assert judged.advantages.std() == pytest.approx(1.0, abs=1e-4)


class TestState:
    def test_it_goes_on_bit_by_bit(self):
        whole, first, second = new_critic(), new_critic(), new_critic(seed=7)
        for seed in (0, 1):
            judge(whole, seed=seed)
        judge(first, seed=0)

        second = new_critic()
        second.load_state(first.state())
        judge(second, seed=1)

        expected, found = whole.state(), second.state()
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)
        assert {"0.weight", "0.exp_avg", "counts"} <= found.keys()

    def test_the_seed_decides_its_weights(self):
        one, same, other = (new_critic(seed=seed).state()["0.weight"] for seed in (0, 0, 1))

        assert torch.equal(one, same)
        assert not torch.equal(one, other)

    def test_a_checkpoint_without_a_critic_is_refused(self):
        with pytest.raises(ValueError, match="holds no critic") as caught:
            new_critic().load_state({})

        assert raises_one_line(caught.value, "algo.critic none")


class TestUpdate:
    ALGO = replace(ALGO, num_epochs=2, num_minibatches=2, lr=1e-4)

    def learn(self, critic: Critic | None) -> dict[str, Tensor]:
        policy = small_policy()
        train(policy, draw_batch(policy, 9), self.ALGO, critic=critic)
        return weights_of(policy)

    def critic(self, **settings: object) -> Critic:
        width = small_policy().network.feature_width
        return Critic(ValueConfig(**settings), width, OptimizerConfig(), seed=0)

    def test_while_it_warms_up_the_policy_learns_the_same_bits(self):
        without = self.learn(None)

        found = self.learn(self.critic(warmup_batches=1))

        assert all(torch.equal(found[name], without[name]) for name in without)

    def test_then_it_decides_what_the_policy_learns(self):
        without = self.learn(None)

        found = self.learn(self.critic(warmup_batches=0))

        assert any(not torch.equal(found[name], without[name]) for name in without)


class TestFeatures:
    @pytest.mark.parametrize("is_pi05", [False, True])
    def test_they_depend_on_the_observation_alone(self, is_pi05: bool):
        policy = small_policy(is_pi05=is_pi05)
        batch = draw_batch(policy, 3)
        inputs = policy.encode(batch.observations, batch.tasks)
        prefix = policy.prefix(inputs)

        with torch.no_grad():
            found = policy.features(prefix, inputs)
            again = policy.features(prefix, inputs)

        assert found.shape == (3, policy.network.feature_width)
        assert torch.equal(found, again)
        assert not torch.allclose(found[0], found[1])

    def test_they_are_what_the_velocity_of_no_action_is_made_of(self):
        # The projection is linear, so the velocity's mean over the actions is the projection of the features.
        policy = small_policy()
        batch = draw_batch(policy, 3)
        inputs = policy.encode(batch.observations, batch.tasks)
        prefix, card = policy.prefix(inputs), policy.card

        with torch.no_grad():
            found = policy.network.core.action_out_proj(policy.features(prefix, inputs))
            zeros = torch.zeros(3, 1, card.horizon, card.action_dim)
            velocity = policy.velocity(prefix, inputs, zeros, torch.ones(1))

        torch.testing.assert_close(found, velocity.mean(dim=(1, 2)))

    def test_none_of_it_reaches_the_weights_of_the_policy(self):
        policy = small_policy()
        policy.trainable_parameters(expert_only=True)
        batch = draw_batch(policy, 3)
        from_scorer = Scorer(policy, batch, np.arange(3), SAMPLING, is_frozen=True).features(2)

        assert not from_scorer.requires_grad
