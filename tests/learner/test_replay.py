"""Samples of earlier steps beside new ones: what is kept, what it weighs, and what an update makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pi0.ript.algo.flow_sde import FlowSde
from pi0.ript.algo.transitions import log_ratio
from pi0.ript.config.algo import AlgoConfig, ReplayWeighting
from pi0.ript.learner.batch import Totals, idle_batch
from pi0.ript.learner.replay import MOST_GROUPS, Replay
from pi0.ript.types import Batch
from tests.learner.replaying import ALGO, NUM_SHARES, STILL, Learner, gradient
from tests.learner.samples import SAMPLING, are_equal, draw_batch, weights_of
from tests.learner.updates import NUM_SAMPLES
from tests.policy_parts import small_policy


def steps(batch: Batch) -> list[int]:
    """Return the steps that the groups of a batch are of, in their order."""
    return np.unique(batch.groups // MOST_GROUPS).tolist()


class TestWhatIsKept:
    def test_without_replay_a_batch_is_the_one_that_was_given(self):
        replay, batch = Replay(0), draw_batch(small_policy(), 3)
        assert replay.join(1, batch, NUM_SHARES) is batch

        replay.keep(1, batch, NUM_SHARES, FlowSde(ALGO))

        assert replay.kept == ()

    def test_the_samples_of_the_last_two_steps_come_before_the_new_ones(self):
        learner = Learner()
        found = [steps(learner.learn(step)[0]) for step in (1, 2, 3, 4)]

        assert found == [[1], [1, 2], [1, 2, 3], [2, 3, 4]]
        assert [kept.step for kept in learner.replay.kept] == [3, 4]

    def test_a_step_that_was_skipped_counts(self):
        learner = Learner()
        learner.learn(1)
        learner.learn(2)

        assert steps(learner.learn(4)[0]) == [2, 4]

    def test_groups_are_numbered_through_all_steps_in_rising_order(self):
        learner = Learner()
        learner.learn(1)
        batch, _ = learner.learn(2)

        assert (np.diff(batch.groups) >= 0).all()
        # seven samples in groups of three, from each of two steps
        expected = [step * MOST_GROUPS + group for step in (1, 2) for group in (0, 1, 2)]
        assert np.unique(batch.groups).tolist() == expected

    def test_samples_without_signal_are_not_kept(self):
        learner = Learner()
        batch = learner.draw(1)
        advantages = batch.advantages.copy()
        advantages[:3] = 0  # a uniform group
        learner.learn(1, replace(batch, advantages=advantages))

        [kept] = learner.replay.kept
        assert np.array_equal(kept.samples.chains, batch.chains[3:])
        assert kept.samples.seeds.tolist() == [3, 4, 5, 6]

    def test_an_old_sample_is_the_one_that_was_drawn(self):
        learner = Learner()
        first = learner.draw(1)
        learner.learn(1, first)
        batch, _ = learner.learn(2)

        old = slice(NUM_SAMPLES)
        for name in ("chains", "advantages", "is_scored", "is_success", "num_executed", "seeds"):
            assert np.array_equal(getattr(batch, name)[old], getattr(first, name)), name
        assert batch.observations[old] == first.observations
        assert batch.tasks[old] == first.tasks
        assert batch.num_replayed == NUM_SAMPLES

    def test_a_rank_without_new_groups_has_old_ones_alone(self):
        learner = Learner()
        learner.learn(1)
        idle = idle_batch(learner.policy.card, SAMPLING.num_steps)

        assert steps(learner.replay.join(2, idle, NUM_SHARES)) == [1]
        assert len(Replay(2).join(2, idle, NUM_SHARES)) == 1, "nothing is old, so it stays idle"


class TestWhatAnEpisodeWeighs:
    def test_an_episode_of_any_step_weighs_one_share(self):
        # 1/4 each where 4 episodes were accepted, 1/2 each where 2 were
        learner = Learner()
        batch = replace(learner.draw(1), weights=np.full(NUM_SAMPLES, 1 / 4, np.float32))
        learner.learn(1, batch)

        joined = learner.replay.join(2, replace(learner.draw(2), weights=batch.weights * 2), 2)

        assert joined.weights.tolist() == pytest.approx([1 / 2] * (2 * NUM_SAMPLES))

    def test_shares_are_episodes_or_samples(self):
        totals = Totals(num_episodes=9, num_successes=4, num_with_signal=8, num_samples=100)
        assert totals.num_shares("trajectory") == 8
        assert totals.num_shares("token") == 100


@pytest.mark.parametrize("weighting", ["smooth", "decoupled"])
class TestWeightsThatDoNotMove:
    """With a learning rate of 0 older weights are those of now: old samples count like new ones."""

    # in micro-batches of 7 an old sample is scored among as many others as in its own step; in those of 4 one of
    # 3, 4 or 2 samples, and float32 rounds its 28 entries otherwise
    @pytest.mark.parametrize(("micro_batch_size", "bound"), [(NUM_SAMPLES, 1e-6), (4, 1e-5)])
    def test_log_ratios_to_those_that_drew_a_sample_are_zero(
        self, weighting: ReplayWeighting, micro_batch_size: int, bound: float
    ):
        algo = replace(ALGO, replay_weighting=weighting, micro_batch_size=micro_batch_size)
        learner = Learner(algo, lr=STILL)
        learner.learn(1)
        [kept] = learner.replay.kept
        _, stats = learner.learn(2)

        batch_index, means = learner.objective.means_before
        std = learner.policy.scored_stds(SAMPLING)
        assert batch_index.tolist() == list(range(2 * NUM_SAMPLES))
        assert kept.samples.behavior_means is not None
        found = log_ratio(
            means[:NUM_SAMPLES],
            torch.from_numpy(kept.samples.behavior_means),
            torch.from_numpy(kept.samples.chains)[:, 1:, :4, :7],
            std,
        )
        assert float(found.abs().max()) <= bound
        assert stats.effective_samples == pytest.approx(1.0, abs=1e-9)
        assert stats.replay_kl == pytest.approx(0.0, abs=1e-12)
        assert stats.num_replayed == NUM_SAMPLES
        assert stats.log_ratio_max == 0.0

    def test_the_gradient_is_that_of_all_samples_as_new_ones(self, weighting: ReplayWeighting):
        learner = Learner(replace(ALGO, replay_weighting=weighting), lr=STILL)
        learner.learn(1)
        batch = learner.replay.join(2, learner.draw(2), NUM_SHARES)
        as_new = replace(batch, behavior_means=None)

        found, expected = (gradient(learner, each) for each in (batch, as_new))

        assert float((found - expected).norm() / expected.norm()) < 1e-6

    def test_the_first_step_is_that_of_a_run_without_replay_bit_for_bit(
        self, weighting: ReplayWeighting
    ):
        learner = Learner(replace(ALGO, replay_weighting=weighting))
        without = Learner(replace(ALGO, replay_steps=0))

        _, found = learner.learn(1)
        _, expected = without.learn(1)

        assert found == expected
        assert found.num_replayed is None
        assert are_equal(weights_of(learner.policy), weights_of(without.policy))


class TestImitation:
    """Successes of earlier steps are imitated as they are, whichever weights drew them."""

    ALGO = replace(ALGO, objective="bc", kl_stop=AlgoConfig().kl_stop)

    def test_successes_alone_are_kept_and_no_means(self):
        learner = Learner(self.ALGO)
        first = learner.draw(1)
        learner.learn(1, first)

        [kept] = learner.replay.kept
        assert np.array_equal(kept.samples.chains, first.chains[first.is_success])
        assert 0 < len(kept.samples) < NUM_SAMPLES
        assert kept.samples.behavior_means is not None
        assert kept.samples.behavior_means.shape == (len(kept.samples), 0, 0, 0)

    def test_an_update_is_that_of_all_samples_as_new_ones_bit_for_bit(self):
        # still: as new ones the audit would refuse samples of other weights
        learner = Learner(self.ALGO, lr=STILL)
        learner.learn(1)
        batch = learner.replay.join(2, learner.draw(2), NUM_SHARES)

        found, expected = (
            gradient(learner, each) for each in (batch, replace(batch, behavior_means=None))
        )

        assert batch.num_replayed > 0
        assert torch.equal(found, expected)

    def test_how_many_are_old_is_told_and_nothing_about_likelihoods(self):
        learner = Learner(self.ALGO)
        first = learner.draw(1)
        _, alone = learner.learn(1, first)
        _, stats = learner.learn(2)

        assert alone.num_replayed is None
        assert stats.num_replayed == first.is_success.sum()
        assert stats.effective_samples is None
        assert stats.replay_kl is None
