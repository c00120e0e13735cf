"""Which episode a free slot takes, and how many scenes that costs in a whole run."""

import itertools

import pytest

from pi0.records import Sampling
from pi0.ript.env.rollout.queue import choose
from pi0.ript.env.rollout.scheduler import Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from tests.env.toys import ToyPolicy, ToyPool, toy_request, toy_state

A, B, C = [("libero_goal", task) for task in range(3)]


def pool_with(*tasks, num_workers=2, max_scenes=2):
    """Four slots; slot n has an episode of ``tasks[n]`` under way."""
    pool = ToyPool(4, num_workers=num_workers, max_scenes=max_scenes)
    for slot, task in enumerate(tasks):
        pool.restore(slot, toy_state(task_id=task))
    return pool


def test_an_episode_whose_scene_is_loaded_goes_first():
    pool = pool_with(0, 1)  # slots 0 and 2 live in worker 0, slots 1 and 3 in worker 1

    assert choose(pool, 2, [B, C, A], num_active=1) == 2
    assert choose(pool, 3, [A, C, B], num_active=1) == 2


def test_a_scene_that_no_worker_has_comes_before_one_that_another_worker_has():
    assert choose(pool_with(0, 1), 2, [B, C], num_active=1) == 1


def test_a_scene_is_built_twice_only_by_a_worker_without_work():
    pool = pool_with(0)

    assert choose(pool, 1, [A], num_active=0) == 0
    assert choose(pool_with(0, 1), 3, [A], num_active=1) is None


def test_a_scene_that_does_not_fit_waits():
    pool = pool_with(0, 1, num_workers=1)  # both scenes are held

    assert choose(pool, 2, [C], num_active=2) is None
    assert choose(pool, 2, [C, B], num_active=2) == 1
    replies = pool.wait()
    while len(replies) < 2:
        replies += pool.wait()
    pool.release(0)
    assert choose(pool, 2, [C], num_active=1) == 0


def run(pool, requests):
    waiting = iter(requests)
    scheduler = Scheduler(
        pool,
        ToyPolicy(),
        lambda: next(waiting, None),
        sampling=Sampling(num_steps=4),
        batch_size=4,
        max_attempts=1,
        max_restarts=0,
        stats=RolloutStats(),
    )
    return list(scheduler.run())


def test_one_task_runs_on_all_workers():
    pool = ToyPool(8, num_workers=4)

    run(pool, [toy_request(seed) for seed in range(40)])

    assert sorted(worker for worker, _ in pool.built) == [0, 1, 2, 3]
    assert pool.max_under_way == 8


@pytest.mark.parametrize("order", range(5))
def test_four_tasks_are_shared_out_with_few_scenes_built(order):
    # 2 workers with room for 2 scenes each: 4 builds are the least. Near the end, when only one
    # task is left, the other worker may build a copy rather than idle.
    pool = ToyPool(8, shuffle_seed=order, num_workers=2, max_scenes=2)
    groups = [[toy_request(8 * n + k, task_id=n % 4) for k in range(8)] for n in range(12)]

    episodes = run(pool, list(itertools.chain(*groups)))

    assert len(episodes) == 96
    assert 4 <= len(pool.built) <= 6


@pytest.mark.parametrize("order", range(5))
def test_more_tasks_than_scenes_fit_are_all_run_within_the_limit(order):
    pool = ToyPool(6, shuffle_seed=order, num_workers=2, max_scenes=1)

    episodes = run(pool, [toy_request(n, task_id=n % 5) for n in range(60)])

    assert sorted(episode.request.seed for episode in episodes) == list(range(60))
