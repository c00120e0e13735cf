"""Rewards that must not teach."""

from dataclasses import replace

from benchmarks.reward_controls import flipped, permuted
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
