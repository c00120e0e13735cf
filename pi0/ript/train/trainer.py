"""The RIPT loop: practise, compare, learn, report."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from pi0.description import describe_policy
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.algo.objective import Objective
from pi0.ript.algo.selection import MasteredStates
from pi0.ript.config.safety import Measure
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.rollout_stats import RolloutStats
from pi0.ript.env.runner import EnvRunner
from pi0.ript.env.suites import step_limit
from pi0.ript.interfaces import Policy, Progress, Ranks, Reporter
from pi0.ript.report.episode_log import EpisodeLog
from pi0.ript.report.video import Film, FilmWriter
from pi0.ript.seeding import derive_seed
from pi0.ript.train.batch import idle_batch, make_batch
from pi0.ript.train.checkpoint import TrainingState, save_checkpoint
from pi0.ript.train.collect import GroupCollector, collect
from pi0.ript.train.collection import Collection
from pi0.ript.train.evaluate import EpisodeRecord, evaluate, evaluation_requests
from pi0.ript.train.initial_states import InitialStateSampler
from pi0.ript.train.inspection import inspectable
from pi0.ript.train.memory_watch import MemoryWatch
from pi0.ript.train.metrics import collection_metrics, update_metrics
from pi0.ript.train.practice import Collect, Practice, Practised
from pi0.ript.train.progression import TARGET_WINDOW, Position, Progression, Stopwatch
from pi0.ript.train.regression_guard import RegressionError, RegressionGuard
from pi0.ript.train.rollback import roll_back
from pi0.ript.train.stopping import raise_if_stopped
from pi0.ript.train.time_left import seconds_left
from pi0.ript.train.update import Engine, update
from pi0.ript.types import Episode, InitialState, UpdateStats

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainerParts:
    """What ``build.py`` puts together for a trainer."""

    policy: Pi0Policy
    runner: EnvRunner
    engine: Engine
    ranks: Ranks
    objective: Objective
    mastered: MasteredStates
    guard: RegressionGuard
    memory: MemoryWatch
    states: InitialStateSampler
    practice: Callable[[Collect], Practice]
    tasks: tuple[tuple[str, int], ...]
    reporter: Reporter
    episode_log: EpisodeLog | None  # of rank 0
    practice_films: FilmWriter
    progress: Progress
    run_dir: Path
    config_hash: str


class Trainer:
    """Runs RIPT from wherever ``progression`` stands."""

    def __init__(
        self,
        config: TrainConfig,
        parts: TrainerParts,
        progression: Progression,
        stopwatch: Stopwatch,
    ) -> None:
        self._config = config
        self._parts = parts
        self._practice = parts.practice(self._collect)
        self._progression = progression
        self.stopwatch = stopwatch
        self._finished = self._position()
        self._is_learning = False
        self._saved_step: int | None = None

    @property
    def step(self) -> int:
        """Return the RIPT steps finished."""
        return self._progression.step

    @property
    def policy_card(self) -> dict[str, object]:
        """Return what results depend on besides the weights, ready for JSON."""
        return describe_policy(self._parts.policy)

    def save_beginning(self) -> None:
        """Leave a checkpoint of a new run, so that it can be resumed from its first moment on."""
        if (self._parts.run_dir / "checkpoints" / str(self.step)).is_dir():
            self._saved_step = self.step
        elif self.step == 0:
            self._save(self._finished)

    def train(self, between_steps: Callable[[], None]) -> None:
        """Practise until the last step or the target, leaving a checkpoint of the end.

        Args:
            between_steps: Called before every step.
        """
        with closing(self._practice):
            while not self.is_finished:
                raise_if_stopped()
                self._parts.memory.look()
                between_steps()
                self._train_step(self.step + 1)

    def _train_step(self, step: int) -> None:
        watch = Stopwatch()
        with watch.measure("collect"):
            practised = self._practice.take(step)
        after = replace(self._progression)
        after.add(practised.collection)
        self._is_learning = True
        with watch.measure("update"), self._stage(step, "update", 0):
            acted_with = self._practice.go_on(None if self._is_end(after) else step + 1)
            stats = self._update(step, practised.collection, acted_with)
        self._progression = after
        # Figures first: a run killed in between resumes before this step and writes them again.
        self._report(practised, stats, watch)
        self._finished, self._is_learning = self._position(), False
        with self.stopwatch.measure("checkpoint"):
            self._save_if_due()

    @property
    def is_evaluation_due(self) -> bool:
        """Return whether the policy of this step is one of those to be evaluated."""
        every = self._config.evaluation.every
        return every > 0 and self.step % every == 0

    @property
    def recent_success(self) -> float | None:
        """Return the practice success of the last step; None before the first."""
        recent = self._progression.recent_success
        return recent[-1] if recent else None

    def guard_success(self, measure: Measure, rate: float) -> None:
        """Keep the checkpoint of the best policy; stop or go back to it when success has fallen too far.

        Raises:
            RegressionError: ``training.regression_guard`` says that the run ends.
        """
        config, guard = self._config.training.regression_guard, self._parts.guard
        if measure != config.measure:
            return
        verdict = guard.add(self.step, rate)
        if verdict == "best" and guard.protected_step is not None:
            self.save_finished()
        if verdict != "regressed":
            return
        text = (
            f"{measure} success fell from {guard.best:.1%} after step {guard.best_step} to {rate:.1%} "
            f"after step {self.step}, {config.patience} times {config.drop:.1%} or more below the best"
        )
        if config.action == "stop":
            raise RegressionError(f"{text}; training.regression_guard ends the run")
        logger.warning("%s; going on from step %d", text, guard.best_step)
        best = self._parts.run_dir / "checkpoints" / str(guard.best_step)
        roll_back(best, self._parts.policy, self._parts.engine, self._parts.objective)
        self._finished = self._position()
        self._save(self._finished)

    def save_finished(self) -> int | None:
        """Leave a checkpoint of the last finished step, in the middle of whatever was interrupted.

        Weights that an unfinished update may have changed belong to no step and are not saved, nor are
        those of an optimizer that is spread over ranks, which would have to meet.

        Returns:
            The step after which a resumed run goes on; None if there is no checkpoint at all.
        """
        can_save = not self._is_learning and not self._parts.engine.needs_equal_passes
        if can_save and self._saved_step != self._finished.step:
            self._save(self._finished)
        return self._saved_step

    def evaluate(self) -> list[EpisodeRecord]:
        """Measure the current policy on the held-out episodes, the same ones every time."""
        config = self._config
        requests = evaluation_requests(
            self._parts.tasks,
            episodes_per_task=config.evaluation.rollouts_per_task,
            held_out=config.task.num_held_out_states,
            fixture_seed=config.task.fixture_seed,
            seed=config.training.seed,
            max_episode_length=config.task.max_episode_length,
            num_filmed=config.evaluation.save_videos,
        )
        sampling = Sampling(
            num_steps=config.policy.denoise_steps, guidance=config.algo.cfg.evaluation_guidance
        )
        name = f"evaluate after step {self.step}"
        self._practice.rest()
        with (
            self.stopwatch.measure("evaluate"),
            self._parts.progress.stage(name, len(requests)) as show,
            FilmWriter.within(config.video) as writer,
        ):
            film = Film(
                writer,
                config.video.folder(self._parts.run_dir) / f"step_{self.step}",
                self._watched(show),
            )
            return evaluate(
                lambda source: self._parts.runner.run(source, sampling),
                requests,
                film,
                self._parts.ranks,
            )

    @property
    def is_writer(self) -> bool:
        """Return whether this rank writes the run directory."""
        return self._parts.ranks.rank == 0

    def agree(self, *, is_so: bool) -> bool:
        """Return what rank 0 says; all ranks meet here."""
        return self.first_said(str(is_so)) == str(True)

    def first_said(self, text: str) -> str:
        """Return the text of rank 0; all ranks meet here."""
        return self._parts.ranks.gather_text(text)[0]

    @property
    def is_finished(self) -> bool:
        """Return whether the last step or the target has been reached."""
        return self._is_end(self._progression)

    def _is_end(self, progression: Progression) -> bool:
        training = self._config.training
        if progression.step >= training.num_train_steps:
            return True
        recent = progression.recent_success
        has_enough = len(recent) == TARGET_WINDOW and training.target_success is not None
        return has_enough and sum(recent) / TARGET_WINDOW >= (training.target_success or 0.0)

    def close(self) -> None:
        """Flush and release what records the figures."""
        self._parts.reporter.close()
        if self._parts.episode_log:
            self._parts.episode_log.close()
        self._parts.practice_films.close()

    def _collect(self, step: int, policy: Policy) -> tuple[Collection, RolloutStats]:
        algo, seed = self._config.algo, self._config.training.seed
        collector = GroupCollector(
            self._parts.states.next, self._max_steps, algo, seed, "rollout", step,
            num_filmed=int(self._config.video.save), mastered=self._parts.mastered,
            ranks=self._parts.ranks.aside(),
        )  # fmt: skip
        sampling = self._sampling(step)
        wanted = algo.demo_batch_size * algo.rloo_batch_size
        with self._stage(step, "practise", wanted) as show:
            folder = self._config.video.folder(self._parts.run_dir) / f"practice_{step}"
            film = Film(self._parts.practice_films, folder, self._watched(show))
            runner = self._parts.runner
            collection = collect(
                lambda source: runner.run(source, sampling, policy=policy), collector, film
            )
            return collection, runner.stats

    def _stage(
        self, step: int, name: str, num_episodes: int
    ) -> AbstractContextManager[Callable[[Episode], None]]:
        num_steps = self._config.training.num_train_steps
        left = seconds_left(
            self.stopwatch.seconds,
            step=self.step,
            num_steps=num_steps,
            evaluates_every=self._config.evaluation.every,
        )
        return self._parts.progress.stage(f"step {step}/{num_steps} {name}", num_episodes, left)

    def _watched(self, then: Callable[[Episode], None]) -> Callable[[Episode], None]:
        def on_episode(episode: Episode) -> None:
            self._parts.memory.look()
            then(episode)

        return on_episode

    def _sampling(self, step: int) -> Sampling:
        return self._config.algo.sampling(step, self._config.policy.denoise_steps)

    def _max_steps(self, state: InitialState) -> int:
        return self._config.task.max_episode_length or step_limit(state.suite)

    def _update(
        self, step: int, collection: Collection, acted_with: Sequence[Tensor] | None
    ) -> UpdateStats | None:
        if not collection.num_accepted:
            logger.warning(
                "step %d: update skipped, no group to learn from; collection %s",
                step,
                collection.description,
            )
            return None
        algo = self._config.algo
        batch = (
            make_batch(collection.groups, algo.loss_aggregation, algo.cfg, collection.totals)
            if collection.groups
            else idle_batch(self._parts.policy.card, self._config.policy.denoise_steps)
        )
        with self._practice.learning_threads(), inspectable(batch, self._parts.run_dir, step):
            return update(
                self._parts.policy,
                self._parts.engine,
                batch,
                self._parts.objective,
                algo,
                self._sampling(step),
                derive_seed(self._config.training.seed, "update", step),
                has_frozen_prefix=self._config.policy.has_frozen_prefix,
                acted_with=acted_with,
                ranks=self._parts.ranks,
            )

    def _save_if_due(self) -> None:
        training = self._config.training
        if self.step % training.save_freq == 0 or self.is_finished:
            self._save(self._finished)

    def _position(self) -> Position:
        place = self._practice.place
        return Position(
            step=self._progression.step,
            sampler_position=place.position,
            counters={
                **self._progression.counters(),
                **self.stopwatch.counters(),
                **place.mastered,
                **self._parts.guard.counters(),
            },
        )

    def _save(self, position: Position) -> None:
        self._saved_step = position.step
        engine_state = self._parts.engine.state()  # ranks that share it meet here
        if not self.is_writer:
            return
        state = TrainingState(
            step=position.step,
            engine=engine_state,
            sampler_position=position.sampler_position,
            counters=position.counters,
            objective=self._parts.objective.state(),
            config_hash=self._parts.config_hash,
            acting=self._practice.acting(),
        )
        save_checkpoint(
            self._parts.run_dir,
            self._parts.policy,
            state,
            self._config.training.keep_checkpoints,
            protected=self._parts.guard.protected_step,
        )

    def _report(self, practised: Practised, stats: UpdateStats | None, watch: Stopwatch) -> None:
        for stage, seconds in watch.seconds.items():
            self.stopwatch.seconds[stage] = self.stopwatch.seconds.get(stage, 0.0) + seconds
        metrics = {
            **collection_metrics(practised.collection),
            "rollout/staleness_updates": practised.staleness,
            **update_metrics(stats),
            "train/num_episodes": self._progression.num_episodes,
            "train/num_env_steps": self._progression.num_env_steps,
            **{f"time/{stage}_s": seconds for stage, seconds in watch.seconds.items()},
            "time/practice_s": practised.seconds,
            **practised.stats.metrics(practised.seconds),
            **self._parts.memory.metrics(),
        }
        if self._parts.episode_log:
            self._parts.episode_log.log(self._progression.step, practised.collection.rows)
        self._parts.reporter.log(self._progression.step, metrics)
