"""What videos of every control step cost: logged before, and measured after."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pi0.ript.env.runner import EnvRunner
from pi0.ript.types import EpisodeRequest

logger = logging.getLogger(__name__)


@contextmanager
def video_cost(requests: Sequence[EpisodeRequest], runner: EnvRunner) -> Iterator[None]:
    """Log what videos will cost the simulators, and once the episodes are done what they did cost."""
    max_steps = [request.max_steps for request in requests if request.records_every_step]
    if not max_steps:
        yield
        return
    logger.info("videos: %s", predicted_cost(max_steps, runner.seconds_per_image))
    yield
    stats = runner.stats
    logger.info(
        "videos: %d images of control steps took %.1f s of simulator time",
        stats.num_video_frames,
        stats.video_seconds,
    )


def predicted_cost(max_steps: Sequence[int], seconds_per_image: float | None) -> str:
    """Return the cost of drawing an image after every control step of episodes, in words.

    Args:
        max_steps: Most control steps of each recorded episode.
        seconds_per_image: Of a worker; None where nothing was drawn yet.
    """
    num_images = sum(max_steps)
    text = f"up to {num_images:,} images of control steps ({len(max_steps)} episodes)"
    if seconds_per_image is None:
        return f"{text}; what an image takes is known after the first observation"
    seconds = num_images * seconds_per_image
    return f"{text}, up to about {seconds:.0f} s of simulator time ({1000 * seconds_per_image:.0f} ms each)"
