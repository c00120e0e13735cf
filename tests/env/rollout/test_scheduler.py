"""The scheduler, driven by a toy pool: what is delivered, how often, and in which batches."""

import itertools

import numpy as np
import pytest

from pi0.ript.env.pool.ledger import PoolClosedError
from pi0.ript.env.rollout.scheduler import LockstepScheduler
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.seeding import derive_seed
from tests.env.rollout.schedules import fingerprint, run, start, start_hundred
from tests.env.toys import HORIZON, ToyPolicy, ToyPool, toy_request


def test_nothing_is_drawn_after_the_last_step():
    # Action chunks of 4: ten steps are chunks of 4, 4 and 2; eight steps are 4 and 4.
    pool = ToyPool(1)
    run(pool, [toy_request(0, max_steps=10), toy_request(1, max_steps=8)])
    assert pool.observations == [True, True, False, True, False]


def test_only_episodes_with_a_video_of_every_step_are_drawn_at_every_step():
    # Every episode is one action chunk of 4 and one of 2.
    pool, wanted = ToyPool(1), [
        toy_request(0, max_steps=6),
        toy_request(1, max_steps=6, record_video=True),
        toy_request(2, max_steps=6, record_video=True, video_rate="steps"),
        toy_request(3, max_steps=6, video_rate="steps"),
    ]  # fmt: skip
    episodes = run(pool, wanted)

    assert pool.videos == [False, False, False, False, True, True, False, False]
    lengths = {e.request.seed: [len(frames) for frames in e.frames] for e in episodes}
    assert lengths == {0: [], 1: [], 2: [4, 2], 3: []}


def test_a_video_holds_nothing_of_an_attempt_that_was_given_up():
    # Requests: restore, chunk, lost chunk; then restore, chunk, chunk, which are numbers 4 and 5.
    pool = ToyPool(1, crashes={2: "boom"})
    (episode,) = run(pool, [toy_request(0, max_steps=8, record_video=True, video_rate="steps")])

    # Requests are counted before their images are drawn.
    assert [frames.unpack().max() for frames in episode.frames] == [5, 6]
    assert len(episode.policy_steps) == 2


@pytest.mark.parametrize("num_slots", [1, 3, 8])
def test_every_request_is_delivered_exactly_once(num_slots):
    episodes = run(ToyPool(num_slots), [toy_request(seed) for seed in range(7)])

    assert sorted(episode.request.seed for episode in episodes) == list(range(7))


def test_no_request_is_no_episode():
    assert run(ToyPool(2), []) == []


def test_success_ends_an_episode_and_the_step_limit_fails_it():
    # 4 actions per chunk: success after 6 steps takes two policy steps, of 4 and of 2; the
    # limit of 10 steps takes three, of 4, 4 and 2.
    episodes = run(ToyPool(2), [toy_request(0, succeeds_after=6), toy_request(1)])

    solved, failed = sorted(episodes, key=lambda episode: episode.request.seed)
    assert (solved.outcome, solved.num_steps) == ("success", 6)
    assert [policy_step.num_executed for policy_step in solved.policy_steps] == [4, 2]
    assert (failed.outcome, failed.num_steps) == ("failure", 10)
    assert [policy_step.num_executed for policy_step in failed.policy_steps] == [4, 4, 2]


def test_episodes_do_not_depend_on_slots_or_arrival_order():
    requests = [toy_request(seed, succeeds_after=3 * (seed % 4)) for seed in range(12)]

    expected = fingerprint(run(ToyPool(1), requests))

    for num_slots in (2, 5, 12):
        for order in range(5):
            pool = ToyPool(num_slots, shuffle_seed=order)
            assert fingerprint(run(pool, requests, batch_size=3)) == expected


def test_lockstep_gives_the_same_episodes():
    requests = [toy_request(seed, succeeds_after=3 * (seed % 4)) for seed in range(12)]

    episodes = run(ToyPool(5), requests, batch_size=3, kind=LockstepScheduler)

    assert fingerprint(episodes) == fingerprint(run(ToyPool(5), requests, batch_size=3))


def test_lockstep_waits_for_every_chunk_and_every_episode_of_a_round():
    policy = ToyPolicy()
    lengths = [4, 8, 12, 4, 4, 4]

    run(
        ToyPool(3),
        [toy_request(seed, max_steps=length) for seed, length in enumerate(lengths)],
        policy,
        batch_size=3,
        kind=LockstepScheduler,
    )

    # Chunks of 4 steps: the first round acts with 3, 2 and 1 episodes, the second with 3.
    assert policy.batches == [3, 2, 1, 3]


def test_a_batch_waits_only_while_every_worker_has_work():
    # 4 slots on 2 workers. A worker that has nothing left to do gets its chunks at once, however
    # few they are; so does a full batch.
    class Recorder(ToyPolicy):
        def act(self, observations, *rest):
            idle = {0, 1} - {pool.worker_of(slot) for slot in pool.busy}
            self.reasons = [*self.reasons, len(observations) == 4 or bool(idle)]
            return super().act(observations, *rest)

    pool, policy = ToyPool(4, num_workers=2), Recorder()
    policy.reasons = []

    run(pool, [toy_request(seed, max_steps=40) for seed in range(12)], policy, batch_size=4)

    assert all(policy.reasons)


def test_noise_seeds_derive_from_the_request():
    policy = ToyPolicy()

    run(ToyPool(1), [toy_request(42, max_steps=2 * HORIZON)], policy)

    assert policy.seeds == [derive_seed(42, 0), derive_seed(42, 1)]


def test_ready_slots_share_policy_calls():
    policy = ToyPolicy()

    run(ToyPool(8), [toy_request(seed, max_steps=40) for seed in range(16)], policy, batch_size=4)

    assert max(policy.batches) == 4
    assert np.mean(policy.batches) > 2


def test_all_slots_are_used():
    pool = ToyPool(5)

    run(pool, [toy_request(seed) for seed in range(10)])

    assert pool.max_under_way == 5


def test_a_source_that_has_nothing_now_is_called_again():
    # The second request appears only after the first episode has been delivered.
    available = [toy_request(0)]
    seeds = []
    for episode in start(ToyPool(2), lambda: available.pop() if available else None):
        seeds.append(episode.request.seed)
        if episode.request.seed == 0:
            available.append(toy_request(1))

    assert seeds == [0, 1]


def test_a_slot_prefers_tasks_whose_scene_its_worker_has_loaded():
    # Tasks 0 and 1 take turns; two slots start with one each and need never switch but at the end.
    pool = ToyPool(2)

    run(pool, [toy_request(n, task_id=n % 2) for n in range(8)])

    tasks = [[task for owner, task in pool.restored if owner == slot] for slot in (0, 1)]
    switches = sum(a != b for order in tasks for a, b in itertools.pairwise(order))
    assert switches <= 1


def test_stopping_early_leaves_the_pool_idle():
    pool = ToyPool(4)
    episodes = start_hundred(pool)

    next(episodes)
    episodes.close()

    with pytest.raises(AssertionError, match="nothing is under way"):
        pool.wait()


def test_closing_the_pool_first_is_fine_too():
    class Closing(ToyPool):
        def wait(self):
            if self.is_closed:
                raise PoolClosedError
            return super().wait()

    pool = Closing(4)
    pool.is_closed = False
    episodes = start_hundred(pool)
    next(episodes)

    pool.is_closed = True
    episodes.close()


def test_stats_count_work():
    stats = RolloutStats()

    run(ToyPool(2), [toy_request(seed, max_steps=8) for seed in range(3)], stats=stats)

    # 3 episodes of 8 steps in 2 chunks each: 3 restores + 6 chunks of 0.5 toy seconds.
    assert (stats.num_episodes, stats.num_env_steps, stats.policy_samples) == (3, 24, 6)
    assert stats.worker_seconds == {"physics_s": 4.5}
    metrics = stats.metrics(wall_seconds=3.0)
    assert metrics["speed/env_steps_per_s"] == 8.0
    # Each of the two slots is a worker; 9 requests of 0.5 s share 2 x 3 s.
    shares = [metrics[f"speed/worker_{number}_busy_share"] for number in (0, 1)]
    assert sum(shares) == 4.5 / 3.0
    assert metrics["speed/policy_batch_fill"] == 6 / (4 * stats.policy_calls)
