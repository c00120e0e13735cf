"""The RIPT loop: practise, compare, learn, report."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace

from torch import Tensor

from pi0.description import describe_policy
from pi0.records import Sampling
from pi0.ript.config.safety import Measure
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.rollout_stats import RolloutStats
from pi0.ript.env.suites import step_limit
from pi0.ript.interfaces import Policy
from pi0.ript.report.video import Film, FilmWriter
from pi0.ript.seeding import derive_seed
from pi0.ript.train.batch import idle_batch, make_batch
from pi0.ript.train.collect import GroupCollector, collect
from pi0.ript.train.collection import Collection
from pi0.ript.train.evaluate import EpisodeRecord, evaluate, requests_of_run
from pi0.ript.train.film_cost import announce_practice, film_cost
from pi0.ript.train.finite import require_finite_metrics
from pi0.ript.train.inspection import inspectable, inspectable_episodes
from pi0.ript.train.metrics import step_metrics
from pi0.ript.train.parts import TrainerParts
from pi0.ript.train.practice import Practised
from pi0.ript.train.progression import TARGET_WINDOW, Position, Progression, Stopwatch
from pi0.ript.train.rollback import roll_back
from pi0.ript.train.saver import Saver
from pi0.ript.train.stopping import raise_if_stopped
from pi0.ript.train.time_left import seconds_left
from pi0.ript.train.update import update
from pi0.ript.types import Episode, InitialState, UpdateStats

logger = logging.getLogger(__name__)


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
        self._saver = Saver(parts, self._practice, config.training.keep_checkpoints)

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
        self._saver.save_beginning(self._finished)

    def train(self, between_steps: Callable[[], None]) -> None:
        """Practise until the last step or the target, leaving a checkpoint of the end.

        Args:
            between_steps: Called before every step.
        """
        announce_practice(self._config, self._parts.tasks, self._parts.runner)
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
        guard = self._parts.guard
        verdict = guard.add(measure, self.step, rate)
        if verdict == "best" and guard.protected_step is not None:
            self._saver.save_once(self._finished)
        if verdict != "regressed":
            return
        guard.stop_or_warn(self.step, rate)
        best = self._parts.run_dir / "checkpoints" / str(guard.best_step)
        roll_back(best, self._parts.policy, self._parts.engine, self._parts.objective)
        self._finished = self._position()
        self._saver.save(self._finished)

    def save_finished(self) -> int | None:
        """Leave a checkpoint of the last finished step, in the middle of whatever was interrupted.

        Weights that an unfinished update may have changed belong to no step and are not saved, nor are
        those of an optimizer that is spread over ranks, which would have to meet.

        Returns:
            The step after which a resumed run goes on; None if there is no checkpoint at all.
        """
        can_save = not self._is_learning and not self._parts.engine.needs_equal_passes
        if can_save:
            self._saver.save_once(self._finished)
        return self._saver.saved_step

    def evaluate(self) -> list[EpisodeRecord]:
        """Measure the current policy on the held-out episodes, the same ones every time."""
        config = self._config
        requests = requests_of_run(config, self._parts.tasks)
        sampling = Sampling(
            num_steps=config.policy.denoise_steps, guidance=config.algo.cfg.evaluation_guidance
        )
        name = f"evaluate after step {self.step}"
        self._practice.rest()
        with (
            self.stopwatch.measure("evaluate"),
            self._parts.progress.stage(name, len(requests)) as show,
            FilmWriter.within(config.video) as writer,
            film_cost(requests, self._parts.runner),
            inspectable_episodes(self._parts.run_dir, self.step),
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
            film_rate=self._parts.practice_films.rate(self._config.video.rate),
            ranks=self._parts.ranks.aside(),
        )  # fmt: skip
        sampling = self._sampling(step)
        wanted = algo.demo_batch_size * algo.rloo_batch_size
        with (
            self._stage(step, "practise", wanted) as show,
            inspectable_episodes(self._parts.run_dir, step),
        ):
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
            self._saver.save(self._finished)

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

    def _report(self, practised: Practised, stats: UpdateStats | None, watch: Stopwatch) -> None:
        for stage, seconds in watch.seconds.items():
            self.stopwatch.seconds[stage] = self.stopwatch.seconds.get(stage, 0.0) + seconds
        metrics = {
            **step_metrics(practised, stats, self._progression, watch),
            **self._parts.memory.metrics(),
        }
        if self._parts.episode_log:
            self._parts.episode_log.log(self._progression.step, practised.collection.rows)
        self._parts.reporter.log(self._progression.step, metrics)
        require_finite_metrics(self._progression.step, metrics)
