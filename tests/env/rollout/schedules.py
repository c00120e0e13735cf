"""Rollouts of toy episodes on a toy pool, by the real scheduler."""

from pi0.records import Sampling
from pi0.ript.env.rollout.scheduler import Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from tests.env.toys import ToyPolicy, toy_request

SAMPLING = Sampling(num_steps=4)


def start(pool, source, policy=None, *, kind=Scheduler, batch_size=4, max_attempts=3,
          max_restarts=20, stats=None):  # fmt: skip
    scheduler = kind(
        pool,
        policy or ToyPolicy(),
        source,
        sampling=SAMPLING,
        batch_size=batch_size,
        max_attempts=max_attempts,
        max_restarts=max_restarts,
        stats=stats or RolloutStats(),
    )
    return scheduler.run()


def run(pool, requests, *args, **rest):
    waiting = iter(requests)
    return list(start(pool, lambda: next(waiting, None), *args, **rest))


def start_hundred(pool):
    requests = iter(toy_request(seed) for seed in range(100))
    return start(pool, lambda: next(requests, None), batch_size=2)


def fingerprint(episodes):
    """What an episode is, by seed: outcome, length and every executed action."""
    return {
        episode.request.seed: (
            episode.outcome,
            episode.num_steps,
            b"".join(d.chunk.actions[: d.num_executed].tobytes() for d in episode.policy_steps),
        )
        for episode in episodes
    }
