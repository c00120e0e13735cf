"""The same episodes with the policy and without it."""

import numpy as np

from benchmarks.simulator.scaling_costs import RecordedPolicy, Recorder, run_episodes
from tests.env.toys import ToyPolicy, ToyPool, toy_request


def _run(policy):
    todo = [toy_request(seed, succeeds_after=seed, rollout=seed) for seed in range(1, 6)]
    episodes, stats, _ = run_episodes(ToyPool(2, num_workers=1), policy, todo)
    return {e.request.rollout: e for e in episodes}, stats


def test_recorded_answers_give_the_episodes_again():
    recorder = Recorder(ToyPolicy())
    episodes, stats = _run(recorder)
    again, stats_again = _run(RecordedPolicy(recorder.spec, recorder.chunks))

    assert sorted(again) == [1, 2, 3, 4, 5]
    for rollout, episode in episodes.items():
        assert again[rollout].num_steps == episode.num_steps == rollout
        for one, other in zip(episode.policy_steps, again[rollout].policy_steps, strict=True):
            np.testing.assert_array_equal(one.chunk.actions, other.chunk.actions)
    # an episode is one restore and one execution for every four steps
    assert len(stats_again.restores) == len(stats.restores) == 5
    assert len(stats_again.executions) == 1 + 1 + 1 + 1 + 2
