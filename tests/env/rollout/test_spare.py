"""Spare episodes where a worker has nothing to do, and runs that are ended before their episodes."""

import itertools
from contextlib import closing

import pytest

from pi0.records import Sampling
from pi0.ript.env.rollout.queue import Source, no_more
from pi0.ript.env.rollout.scheduler import Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from tests.env.toys import ToyPolicy, ToyPool, toy_request


def start(pool: ToyPool, source: Source, policy: ToyPolicy, spare: Source = no_more):
    return Scheduler(
        pool,
        policy,
        source,
        sampling=Sampling(num_steps=4),
        batch_size=4,
        max_attempts=3,
        max_restarts=20,
        stats=RolloutStats(),
        spare=spare,
    ).run()


class StoppingPolicy(ToyPolicy):
    """Ends the run with its first call, when no episode has ended yet."""

    def act(self, observations, tasks, seeds, sampling):
        raise RuntimeError("stop")


@pytest.mark.parametrize(
    ("num_slots", "num_workers", "num_needed", "num_spare"),
    [
        (4, 4, 4, 0),  # every worker has its one slot full
        (4, 4, 1, 3),  # three workers have nothing
        (8, 2, 6, 0),  # three each: enough to do
        (8, 2, 1, 1),  # one and none: the second takes one
        (8, 2, 0, 2),
    ],
)
def test_only_a_worker_with_nothing_to_do_takes_a_spare_episode(
    num_slots, num_workers, num_needed, num_spare
):
    needed, spares = (toy_request(seed) for seed in range(num_needed)), itertools.count()
    pool = ToyPool(num_slots, num_workers=num_workers)
    episodes = start(
        pool,
        lambda: next(needed, None),
        StoppingPolicy(),
        spare=lambda: toy_request(100 + next(spares)),
    )
    with pytest.raises(RuntimeError, match="stop"):
        next(episodes)
    assert len(pool.restored) == num_needed + num_spare
    assert next(spares) == num_spare


def test_slots_of_a_run_that_was_ended_early_hold_no_scene():
    pool = ToyPool(4)
    numbers = itertools.count()
    with closing(start(pool, lambda: toy_request(next(numbers)), ToyPolicy())) as episodes:
        next(episodes)
    assert all(not pool._ledger(slot).held for slot in range(4))
    requests = iter([toy_request(0)])
    (episode,) = start(pool, lambda: next(requests, None), ToyPolicy())
    assert episode.outcome in ("success", "failure")
