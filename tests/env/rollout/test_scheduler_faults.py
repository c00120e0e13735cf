"""The scheduler where something goes wrong: crashes, lost workers, interrupts, numbers that are not finite."""

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from pi0.ript.env.rollout.retries import RestartLimitError
from pi0.ript.env.rollout.stats import RolloutStats
from tests.env.rollout.schedules import fingerprint, run, start_hundred
from tests.env.toys import ToyPolicy, ToyPool, toy_request


def fail_after_one_episode(pool, error):
    with closing(start_hundred(pool)) as episodes:
        next(episodes)
        raise error


def test_a_crashed_attempt_is_run_again_from_the_start():
    requests = [toy_request(seed) for seed in range(3)]
    stats = RolloutStats()

    episodes = run(ToyPool(2, crashes={1: "boom", 4: "boom"}), requests, stats=stats)

    assert stats.num_retries == 2
    assert fingerprint(episodes) == fingerprint(run(ToyPool(1), requests))


def test_an_episode_that_always_crashes_is_delivered_as_crashed_not_as_failed():
    # One slot: requests 0, 1 and 2 are the three attempts to restore the only episode.
    pool = ToyPool(1, crashes=dict.fromkeys(range(3), "boom"))

    [episode] = run(pool, [toy_request(0)], max_attempts=3)

    assert (episode.outcome, episode.error) == ("crashed", "boom")
    assert pool.num_requests == 3
    with pytest.raises(AssertionError, match="has no reward"):
        _ = episode.reward


@pytest.mark.parametrize("fault", ["died", "hung", "malformed", "lost"])
def test_a_lost_worker_uses_up_no_attempt(fault):
    # One slot and one episode: its restore meets a lost worker four times.
    pool = ToyPool(1, crashes=dict.fromkeys(range(4), "gone"), fault=fault)
    stats = RolloutStats()

    [episode] = run(pool, [toy_request(0)], max_attempts=1, stats=stats)

    assert (episode.outcome, stats.num_retries) == ("failure", 4)
    # What is lost with another episode's worker is no restart of its own.
    assert stats.num_restarts == (0 if fault == "lost" else 4)


def test_a_diverged_episode_is_delivered_at_once_and_no_simulator_is_replaced():
    # Requests: restore, action chunks of 4 and 4, the second of which diverges in its third step.
    pool = ToyPool(1, crashes={2: "diverged at action [1]"}, fault="diverged", crash_steps=3)
    stats = RolloutStats()

    [crashed, after] = run(pool, [toy_request(0), toy_request(1)], max_restarts=0, stats=stats)

    assert (crashed.outcome, crashed.error) == ("crashed", "diverged at action [1]")
    assert (crashed.num_steps, [s.num_executed for s in crashed.policy_steps]) == (7, [4, 3])
    assert (after.outcome, after.num_steps) == ("failure", 10)
    assert (stats.num_diverged, stats.num_restarts, stats.num_retries) == (1, 0, 0)
    assert stats.num_env_steps == 7 + 10


def test_too_many_restarts_end_the_rollout_with_reason_task_and_seed():
    pool = ToyPool(2, crashes=dict.fromkeys(range(3), "gone\nfor good"), fault="died")

    with pytest.raises(
        RestartLimitError,
        match=r"replaced 3 times in one collection, env\.max_restarts allows 2; the last one in "
        r"libero_goal task 0, state 0, seed 7: gone for good",
    ):
        run(pool, [toy_request(7)], max_restarts=2)


def test_as_many_restarts_as_allowed_are_no_reason_to_stop():
    pool = ToyPool(2, crashes=dict.fromkeys(range(2), "gone"), fault="died")
    assert len(run(pool, [toy_request(7)], max_restarts=2)) == 1


def test_restarts_and_their_causes_are_metrics():
    stats = RolloutStats()
    run(ToyPool(1, crashes={0: "a", 2: "b"}, fault="hung"), [toy_request(0)], stats=stats)

    metrics = stats.metrics(wall_seconds=1.0)

    assert metrics["rollout/restarts"] == metrics["rollout/hangs"] == 2
    assert metrics["rollout/restarts_hung"] == 2
    assert metrics["rollout/restart_causes"] == "hung 2"


def test_every_crash_is_logged_on_one_line(caplog):
    run(ToyPool(1, crashes={0: "boom\nand more"}), [toy_request(0, succeeds_after=2)])

    assert caplog.messages == [
        "libero_goal task 0, state 2: boom and more (raised, attempt 1 of 3)"
    ]


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_consumer_is_not_delayed_by_running_simulators(end):
    pool = ToyPool(8, shuffle_seed=1)
    with pytest.raises(end):
        fail_after_one_episode(pool, end())
    assert pool.wait()  # left under way; closing the pool ends it


def test_a_failing_consumer_leaves_the_pool_idle():
    pool = ToyPool(8, shuffle_seed=1)
    with pytest.raises(ValueError, match="mine"):
        fail_after_one_episode(pool, ValueError("mine"))
    with pytest.raises(AssertionError, match="nothing is under way"):
        pool.wait()


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_not_delayed_by_running_simulators(end):
    class Interrupted(ToyPolicy):
        def act(self, *arguments):
            raise end

    pool = ToyPool(8, shuffle_seed=1)  # the first wait returns some of the eight
    with pytest.raises(end):
        run(pool, [toy_request(seed) for seed in range(8)], Interrupted(), batch_size=1)
    assert pool.wait()  # left under way; closing the pool ends it


def test_an_action_chunk_that_is_not_finite_ends_the_rollout_and_leaves_the_pool_idle():
    class Broken(ToyPolicy):
        def _chunk(self, observation, seed):
            chunk = super()._chunk(observation, seed)
            return replace(chunk, actions=np.full_like(chunk.actions, np.nan))

    pool = ToyPool(4)
    with pytest.raises(ValueError, match=r"actions not finite in .*, seed \d"):
        run(pool, [toy_request(seed) for seed in range(4)], Broken())
    assert not pool.busy
