"""Collecting the rollouts of a training step: in turn with the updates here, one step ahead in ``async_collector``."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from pi0.ript.algo.selection import StateSelection
from pi0.ript.config.schema import AlgoConfig, VideoConfig
from pi0.ript.engine.torch_settings import all_cores
from pi0.ript.env.runner import EnvRunner
from pi0.ript.evaluation.video_cost import predicted_cost
from pi0.ript.interfaces import Policy, Ranks
from pi0.ript.report.action_log import ActionLog, Entry
from pi0.ript.report.video import EpisodeVideos, VideoWriter
from pi0.ript.train.dynamic_sampling import DynamicSampling
from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.train.memory_watch import MemoryWatch
from pi0.ript.train.nan_guard import inspectable_episodes
from pi0.ript.train.progression import Stages
from pi0.ript.train.rollouts import Rollouts
from pi0.ript.types import InitialState

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Where the rollouts of a step begin in the order of initial states.

    Attributes:
        num_taken: ``InitialStateSampler.cursor``: initial states taken so far.
        selection: ``StateSelection.counters()``.
    """

    num_taken: int
    selection: Mapping[str, int | float]


@dataclass(kw_only=True)
class Collector:
    """Collects with the newest weights, waits for their update, and collects again.

    Nobody else samples the memory: that may drop scenes, and what is sent to simulators must come from
    the thread that collects, which is not the trainer's own where collecting is one step ahead.

    Attributes:
        policy: Acts.
        runner: Runs the episodes.
        algo: G, K and the noise.
        seed: Of the run.
        denoise_steps: S.
        max_steps: Returns the most control steps of an episode that begins in a state.
        states: The order of initial states.
        selection: Which of the states that are dealt are tried.
        ranks: The processes that collect together.
        memory: Watches it.
        stages: Shows the progress.
        video: Whether rollouts are recorded, and how.
        writer: Writes the videos.
        actions: Keeps what was executed.
        run_dir: Run directory.
    """

    policy: Policy
    runner: EnvRunner
    algo: AlgoConfig
    seed: int
    denoise_steps: int
    max_steps: Callable[[InitialState], int]
    states: InitialStateSampler
    selection: StateSelection
    ranks: Ranks
    memory: MemoryWatch
    stages: Stages
    video: VideoConfig
    writer: VideoWriter
    actions: ActionLog
    run_dir: Path

    def collect(self, step: int) -> Rollouts:
        """Try initial states K times each until enough groups disagree with themselves."""
        start = time.monotonic()
        self.memory.sample()
        requested = self._dynamic_sampling(step)
        sampling = self.algo.sampling(step, self.denoise_steps)
        num_wanted = self.algo.demo_batch_size * self.algo.rloo_batch_size
        folder = self.video.folder(self.run_dir) / f"practice_{step}"
        with (
            self.stages.of_step(step, "collect", num_wanted) as show,
            inspectable_episodes(self.run_dir, step),
            closing(
                self.runner.run(
                    requested.next_request,
                    sampling,
                    policy=self.policy,
                    spare=requested.next_spare,
                )
            ) as run,
        ):
            videos = EpisodeVideos(self.writer, folder, show)
            lines: dict[tuple[int, int], Entry | None] = {}
            for episode in run:
                requested.add(episode)
                number = (episode.request.group, episode.request.rollout)
                lines[number] = self.actions.entry(step, episode)
                self.memory.sample()
                videos(episode)
                if requested.is_over:
                    break
            rollouts = requested.result()
            # spare rollouts that were not needed are none of the step's, and differ from run to run
            self.actions.append(lines.get((r.group, r.rollout)) for r in rollouts.records)
        cost, seconds = self.runner.stats, time.monotonic() - start
        keys = [state.state_key for state in self.states.candidates]
        known = self.selection.metrics(keys, self.algo.rloo_batch_size)
        return replace(rollouts, cost=cost, seconds=seconds, states=known)

    def prefetch(self, step: int | None) -> Sequence[Tensor] | None:
        """Begin to collect the step after the one collected, None if there is none: here it waits.

        Returns:
            The trained weights that acted in the step collected, where they are not the policy's own;
            valid until the next call.
        """
        return None

    @property
    def cursor(self) -> Cursor:
        """Return where the rollouts of the next step begin."""
        return Cursor(num_taken=self.states.cursor, selection=self.selection.counters())

    def behavior_weights(self) -> Mapping[str, Tensor]:
        """Return the trained weights that act in the next step, on the CPU; empty for the policy's own."""
        return {}

    def update_threads(self) -> AbstractContextManager[None]:
        """Let torch use the CPU threads that simulators leave to an update: all, for none runs."""
        return all_cores()

    def announce_videos(self) -> None:
        """Log what videos will cost the simulators in every step of the run."""
        if not self.video.save or self.video.rate != "steps":
            return
        limit = max(map(self.max_steps, self.states.candidates))
        cost = predicted_cost([limit] * self.algo.rloo_batch_size, self.runner.seconds_per_image)
        logger.info("videos of every step: %s", cost)

    def close(self) -> None:
        """Give up what was prefetched and close what is written; safe to call twice."""
        self.actions.close()

    def _dynamic_sampling(self, step: int) -> DynamicSampling:
        return DynamicSampling(
            self.states, self.max_steps, self.algo, self.seed, "rollout", step,
            num_recorded=int(self.video.save), selection=self.selection,
            video_rate=self.writer.rate(self.video.rate), ranks=self.ranks.aside(),
        )  # fmt: skip
