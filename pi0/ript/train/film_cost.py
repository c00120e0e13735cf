"""What films of every control step cost: said before, and measured after."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.runner import EnvRunner
from pi0.ript.env.suites import protocol_of, step_limit
from pi0.ript.types import EpisodeRequest

logger = logging.getLogger(__name__)


@contextmanager
def film_cost(requests: Sequence[EpisodeRequest], runner: EnvRunner) -> Iterator[None]:
    """Log what filming will cost the simulators, and when the episodes are done what it did cost."""
    max_steps = [request.max_steps for request in requests if request.films_steps]
    if not max_steps:
        yield
        return
    logger.info("films: %s", predicted(max_steps, runner.seconds_per_picture))
    yield
    stats = runner.stats
    logger.info(
        "films: %d pictures of control steps took %.1f s of simulator time",
        stats.num_film_pictures,
        stats.film_seconds,
    )


def announce_practice(
    config: TrainConfig, tasks: Sequence[tuple[str, int]], runner: EnvRunner
) -> None:
    """Log what films of practice will cost the simulators in every step of the run."""
    if not config.video.save or config.video.rate != "steps":
        return
    protocol, chosen = protocol_of(runner.policy), config.task.max_episode_length
    limit = max(step_limit(suite, protocol, chosen) for suite, _ in tasks)
    max_steps = [limit] * config.algo.rloo_batch_size
    logger.info("films of every step: %s", predicted(max_steps, runner.seconds_per_picture))


def predicted(max_steps: Sequence[int], seconds_per_picture: float | None) -> str:
    """Return the cost of filming every control step of episodes, in words.

    Args:
        max_steps: Most control steps of each filmed episode.
        seconds_per_picture: Of a worker; None where nothing was drawn yet.
    """
    num_pictures = sum(max_steps)
    text = f"up to {num_pictures:,} pictures of control steps ({len(max_steps)} episodes)"
    if seconds_per_picture is None:
        return f"{text}; what a picture takes is known after the first look"
    seconds = num_pictures * seconds_per_picture
    return f"{text}, up to about {seconds:.0f} s of simulator time ({1000 * seconds_per_picture:.0f} ms each)"
