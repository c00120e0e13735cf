"""Rewards from which nothing, or the wrong thing, can be learned."""

from dataclasses import replace

from benchmarks.reward_controls import ControlRunner, flipped, permuted
from pi0.records import Sampling
from tests.env.toys import ToyPolicy, ToyPool, toy_request
from tests.report.episodes import make_episode


def group_of(*outcomes):
    episodes = [make_episode(outcome=outcome) for outcome in outcomes]
    return [replace(e, request=replace(e.request, rollout=n)) for n, e in enumerate(episodes)]


def test_flipped_pays_for_failure():
    group = flipped(group_of("success", "failure", "failure"))

    assert [episode.reward for episode in group] == [0.0, 1.0, 1.0]
    assert [episode.outcome for episode in group] == ["success", "failure", "failure"]


def test_permuted_keeps_the_rewards_of_a_group_but_not_whose_they_are():
    outcomes = ["success"] * 4 + ["failure"] * 4
    group = permuted(group_of(*outcomes))

    rewards = [episode.reward for episode in group]
    assert sorted(rewards) == [0.0] * 4 + [1.0] * 4
    assert rewards != [float(outcome == "success") for outcome in outcomes]
    # whichever rollout finished first, the same one is paid
    assert rewards == [episode.reward for episode in permuted(group_of(*outcomes)[::-1])]


def test_whole_groups_are_handed_out_and_the_policy_that_is_asked_acts():
    other = ToyPolicy()
    todo = iter([toy_request(seed, succeeds_after=seed % 2, rollout=seed) for seed in range(4)])

    with ControlRunner(ToyPolicy(), "libero_goal", 4, num_parallel_envs=2) as runner:
        episodes = list(
            runner.run(lambda: next(todo, None), Sampling(num_steps=1), ToyPool(2), policy=other)
        )

    # Seeds 1 and 3 succeed after one step, 0 and 2 never do: the reward is for them.
    assert {e.request.seed: e.reward for e in episodes} == {0: 1.0, 1: 0.0, 2: 1.0, 3: 0.0}
    assert len(other.seeds) > 0
