"""A rollout: the episodes of a source, run on the slots of a pool and yielded as they finish."""

from collections.abc import Generator

from pi0.records import Sampling
from pi0.ript.config.env import Schedule
from pi0.ript.env.bounds import DEFAULT_MAX_RESTARTS, Bounds
from pi0.ript.env.policy_call import PolicyCall
from pi0.ript.env.retries import Retries
from pi0.ript.env.rollout_stats import RolloutStats
from pi0.ript.env.scheduler import LockstepScheduler, Scheduler
from pi0.ript.env.suites import task_language
from pi0.ript.env.waiting import Instruct, Source, Waiting
from pi0.ript.interfaces import EnvPool, Policy
from pi0.ript.types import Episode


def rollout(
    pool: EnvPool,
    policy: Policy,
    source: Source,
    *,
    sampling: Sampling,
    batch_size: int,
    max_attempts: int,
    max_restarts: int = DEFAULT_MAX_RESTARTS,
    stats: RolloutStats,
    schedule: Schedule = "ready",
    instruct: Instruct = task_language,
) -> Generator[Episode, None, None]:
    """Run the source's episodes on all slots and yield each as it finishes.

    An episode depends on its request and the policy only, never on slot, order or neighbours. An
    attempt that cannot go on starts again from the initial state. If its own simulation raised, that
    uses one of ``max_attempts``, after which the episode is delivered with outcome ``crashed``; a
    worker that was lost is no fault of its episodes. Ends once nothing is under way and the source
    has nothing left. Closing the generator early waits for the commands under way.

    Args:
        pool: The simulator slots; must be idle.
        policy: Answers batches of looks.
        source: Gives the episodes to do.
        sampling: How the policy draws its chunks.
        batch_size: Most rows per policy call.
        max_attempts: Attempts per episode whose simulation raises.
        max_restarts: Simulators that may be replaced.
        stats: Counts what happens.
        schedule: ``ready`` keeps every simulator going; ``lockstep`` lets all of them decide
            together, wait for the slowest chunk and the longest episode, as vector environments
            do. The episodes are the same.
        instruct: Says what a task is called; LIBERO's own instructions unless another simulator runs.

    Raises:
        NotFiniteError: A look or an answer of the policy holds NaN or infinity.
        RestartLimitError: More simulators had to be replaced than are allowed.
    """
    kind = Scheduler if schedule == "ready" else LockstepScheduler
    bounds = Bounds(max_attempts=max_attempts, max_restarts=max_restarts)
    scheduler = kind(
        pool,
        Waiting(pool, source, instruct),
        PolicyCall(policy, sampling, batch_size, stats),
        Retries(bounds, stats),
        stats,
    )
    try:
        yield from scheduler.run()
    except (KeyboardInterrupt, SystemExit, OSError):
        scheduler.abandon()  # the program ends; closing the pool ends busy simulators
        raise
    except GeneratorExit as closing:
        # Ctrl-C or SIGTERM reached the consumer, which closes us on its way out.
        if isinstance(closing.__context__, KeyboardInterrupt | SystemExit):
            scheduler.abandon()
        raise
    finally:
        scheduler.drain()
