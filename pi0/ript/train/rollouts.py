"""The episodes of a run, practised and held out: asked for, run, filmed, and what is kept of them."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pi0.records import Sampling
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.env.runner import EnvRunner
from pi0.ript.env.suites import protocol_of, step_limit
from pi0.ript.evaluation.episodes import evaluate, requests_of_run
from pi0.ript.interfaces import Policy
from pi0.ript.report.video import EpisodeVideos, VideoWriter
from pi0.ript.train.collect import Collection, GroupCollector, collect
from pi0.ript.train.nan_guard import inspectable_episodes
from pi0.ript.train.parts import TrainerParts
from pi0.ript.train.progression import Stages
from pi0.ript.types import Episode, EpisodeRecord, EpisodeRequest, InitialState

logger = logging.getLogger(__name__)


@contextmanager
def video_cost(requests: Sequence[EpisodeRequest], runner: EnvRunner) -> Iterator[None]:
    """Log what filming will cost the simulators, and when the episodes are done what it did cost."""
    max_steps = [request.max_steps for request in requests if request.records_every_step]
    if not max_steps:
        yield
        return
    logger.info("films: %s", predicted(max_steps, runner.seconds_per_image))
    yield
    stats = runner.stats
    logger.info(
        "films: %d pictures of control steps took %.1f s of simulator time",
        stats.num_video_frames,
        stats.video_seconds,
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
    logger.info("films of every step: %s", predicted(max_steps, runner.seconds_per_image))


def predicted(max_steps: Sequence[int], seconds_per_image: float | None) -> str:
    """Return the cost of filming every control step of episodes, in words.

    Args:
        max_steps: Most control steps of each filmed episode.
        seconds_per_image: Of a worker; None where nothing was drawn yet.
    """
    num_images = sum(max_steps)
    text = f"up to {num_images:,} pictures of control steps ({len(max_steps)} episodes)"
    if seconds_per_image is None:
        return f"{text}; what a picture takes is known after the first look"
    seconds = num_images * seconds_per_image
    return f"{text}, up to about {seconds:.0f} s of simulator time ({1000 * seconds_per_image:.0f} ms each)"


class Rollouts:
    """Runs the episodes of one trainer on its runner, watching the memory meanwhile.

    Nobody else watches it: a look may drop scenes, and what is sent to simulators must come from the thread
    that commands them, which is not the trainer's own where practice is one step ahead.
    """

    def __init__(self, config: TrainConfig, parts: TrainerParts, stages: Stages) -> None:
        self._config = config
        self._parts = parts
        self._stages = stages

    def collect(self, step: int, policy: Policy) -> tuple[Collection, RolloutStats]:
        """Practise until there are enough groups for a step."""
        self._parts.memory.sample()
        algo, runner = self._config.algo, self._parts.runner
        collector = self._collector(step)
        sampling = algo.sampling(step, self._config.policy.denoise_steps)
        wanted = algo.demo_batch_size * algo.rloo_batch_size
        with (
            self._stages.of_step(step, "collect", wanted) as show,
            inspectable_episodes(self._parts.run_dir, step),
        ):
            video = self._video(self._parts.rollout_videos, f"practice_{step}", show)
            collection = collect(
                lambda source: runner.run(source, sampling, policy=policy), collector, video
            )
            return collection, runner.stats

    def evaluate(self, step: int) -> list[EpisodeRecord]:
        """Measure the policy of a step on the held-out episodes, the same ones every time."""
        config, runner = self._config, self._parts.runner
        requests = requests_of_run(config, self._parts.tasks, self._parts.policy.protocol)
        sampling = Sampling(
            num_steps=config.policy.denoise_steps, guidance=config.algo.cfg.evaluation_guidance
        )
        with (
            self._stages.of_evaluation(step, len(requests)) as show,
            VideoWriter.within(config.video) as writer,
            video_cost(requests, runner),
            inspectable_episodes(self._parts.run_dir, step),
        ):
            video = self._video(writer, f"step_{step}", show)
            return evaluate(
                lambda source: runner.run(source, sampling), requests, video, self._parts.ranks
            )

    def _collector(self, step: int) -> GroupCollector:
        algo, seed = self._config.algo, self._config.training.seed
        return GroupCollector(
            self._parts.states.next, self._max_steps, algo, seed, "rollout", step,
            num_recorded=int(self._config.video.save), solved=self._parts.solved,
            video_rate=self._parts.rollout_videos.rate(self._config.video.rate),
            ranks=self._parts.ranks.aside(),
        )  # fmt: skip

    def _max_steps(self, state: InitialState) -> int:
        chosen = self._config.task.max_episode_length
        return step_limit(state.suite, self._parts.policy.protocol, chosen)

    def _video(
        self, writer: VideoWriter, name: str, show: Callable[[Episode], None]
    ) -> EpisodeVideos:
        def on_episode(episode: Episode) -> None:
            self._parts.memory.sample()
            show(episode)

        return EpisodeVideos(writer, self._folder(name), on_episode)

    def _folder(self, name: str) -> Path:
        return self._config.video.folder(self._parts.run_dir) / name
