"""The RIPT loop: practise, compare, learn, report."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pi0.description import describe_policy
from pi0.ript.algo.advantages import group_advantages
from pi0.ript.config.schema import Measure, TrainConfig
from pi0.ript.interfaces import Ranks
from pi0.ript.learner.batch import idle_batch, make_batch
from pi0.ript.learner.update import update
from pi0.ript.seeding import derive_seed
from pi0.ript.train.collect import Collection
from pi0.ript.train.collector import Practised
from pi0.ript.train.metrics import step_metrics
from pi0.ript.train.nan_guard import inspectable, require_finite_metrics
from pi0.ript.train.parts import TrainerParts
from pi0.ript.train.progression import Progression, Stages, Stopwatch
from pi0.ript.train.regression_guard import roll_back
from pi0.ript.train.rollouts import Rollouts, announce_practice
from pi0.ript.train.saver import Saver
from pi0.ript.train.signals import raise_if_stopped
from pi0.ript.types import Batch, EpisodeRecord, UpdateStats

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
        self._progression = progression
        self.stopwatch = stopwatch
        self._stages = Stages(config, parts.progress, stopwatch, lambda: self.step)
        self._rollouts = Rollouts(config, parts, self._stages)
        self._practice = parts.practice(self._rollouts.collect)
        self._saver = Saver(
            parts, self._practice, config.training.keep_checkpoints, progression, stopwatch
        )
        self._is_learning = False

    def train(self, between_steps: Callable[[], None]) -> None:
        """Practise until the last step or the target, leaving a checkpoint of the end.

        Args:
            between_steps: Called before every step.
        """
        announce_practice(self._config, self._parts.tasks, self._parts.runner)
        with closing(self._practice):
            while not self.is_finished:
                raise_if_stopped()
                between_steps()
                self._train_step(self.step + 1)

    def _train_step(self, step: int) -> None:
        watch = Stopwatch()
        with watch.measure("collect"):
            practised = self._practice.take(step)
        after = replace(self._progression)
        after.add(practised.collection)
        self._is_learning = True
        with watch.measure("update"), self._stages.of_step(step, "update"):
            is_end = after.is_end(self._config.training)
            behavior_weights = self._practice.go_on(None if is_end else step + 1)
            stats = self._update(step, practised.collection, behavior_weights)
        self._progression = after
        # Figures first: a run killed in between resumes before this step and writes them again.
        self._report(practised, stats, watch)
        self._saver.settle(after)
        self._is_learning = False
        with self.stopwatch.measure("checkpoint"):
            self._save_if_due()

    def _update(
        self, step: int, collection: Collection, behavior_weights: Sequence[Tensor] | None
    ) -> UpdateStats | None:
        stats = self._learn(step, collection, behavior_weights) if collection.num_accepted else None
        if stats is None:
            logger.warning(
                "step %d: update skipped, no group to learn from; collection %s",
                step,
                collection.description,
            )
        return stats

    def _learn(
        self, step: int, collection: Collection, behavior_weights: Sequence[Tensor] | None
    ) -> UpdateStats | None:
        config, parts = self._config, self._parts
        batch = self._batch(collection)
        saving = inspectable(batch, parts.run_dir, step, parts.ranks)
        with self._practice.learning_threads(), saving:
            return update(
                parts.policy,
                parts.engine,
                batch,
                parts.objective,
                config.algo,
                config.algo.sampling(step, config.policy.denoise_steps),
                derive_seed(config.training.seed, "update", step),
                has_frozen_prefix=config.policy.has_frozen_prefix,
                behavior_weights=behavior_weights,
                ranks=parts.ranks,
            )

    def _batch(self, collection: Collection) -> Batch:
        """Return the rows of this rank, which has none where all accepted groups are of others."""
        algo = self._config.algo
        if not collection.groups:
            return idle_batch(self._parts.policy.card, self._config.policy.denoise_steps)
        rewards = torch.from_numpy(np.stack([group.rewards for group in collection.groups]))
        totals = collection.totals
        advantages = group_advantages(rewards, totals.num_successes / totals.num_episodes)
        return make_batch(collection.groups, advantages, algo.loss_aggregation, algo.cfg, totals)

    def _report(self, practised: Practised, stats: UpdateStats | None, watch: Stopwatch) -> None:
        self.stopwatch.add(watch)
        metrics = {
            **step_metrics(practised, stats, self._progression, watch),
            **self._parts.memory.metrics(),
        }
        if self._parts.episode_log:
            self._parts.episode_log.log(self.step, practised.collection.records)
        self._parts.reporter.log(self.step, metrics)
        require_finite_metrics(self.step, metrics)

    def _save_if_due(self) -> None:
        if self.step % self._config.training.save_freq == 0 or self.is_finished:
            self._saver.save()

    def save_beginning(self) -> None:
        """Leave a checkpoint of a new run, so that it can be resumed from its first moment on."""
        self._saver.save_beginning()

    def save_finished(self) -> int | None:
        """Leave a checkpoint of the last finished step, in the middle of whatever was interrupted.

        Weights that an unfinished update may have changed belong to no step and are not saved, nor are
        those of an optimizer that is spread over ranks, which would have to meet.

        Returns:
            The step after which a resumed run goes on; None if there is no checkpoint at all.
        """
        can_save = not self._is_learning and not self._parts.engine.needs_equal_passes
        if can_save:
            self._saver.save_once()
        return self._saver.saved_step

    def evaluate(self) -> list[EpisodeRecord]:
        """Measure the current policy on the held-out episodes, the same ones every time."""
        self._practice.rest()
        with self.stopwatch.measure("evaluate"):
            return self._rollouts.evaluate(self.step)

    def has_regressed(self, measure: Measure, rate: float) -> bool:
        """Keep the checkpoint of the best policy; return whether success has fallen too far below it.

        Raises:
            RegressionError: It has, and ``training.regression_guard`` says that the run ends.
        """
        guard = self._parts.guard
        verdict = guard.add(measure, self.step, rate)
        if verdict == "best" and guard.protected_step is not None:
            self._saver.save_once()
        if verdict != "regressed":
            return False
        guard.stop_or_warn(self.step, rate)
        return True

    def go_back(self) -> None:
        """Put back the policy of the best evaluation, as that of this step."""
        best = self._parts.run_dir / "checkpoints" / str(self._parts.guard.best_step)
        roll_back(best, self._parts.policy, self._parts.engine, self._parts.objective)
        self._saver.settle(self._progression)
        self._saver.save()

    @property
    def step(self) -> int:
        """Return the RIPT steps finished."""
        return self._progression.step

    @property
    def is_finished(self) -> bool:
        """Return whether the last step or the target has been reached."""
        return self._progression.is_end(self._config.training)

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

    @property
    def policy_card(self) -> dict[str, object]:
        """Return what results depend on besides the weights, ready for JSON."""
        return describe_policy(self._parts.policy)

    @property
    def ranks(self) -> Ranks:
        """Return the processes that train together."""
        return self._parts.ranks

    def close(self) -> None:
        """Flush and release what records the figures."""
        self._parts.reporter.close()
        if self._parts.episode_log:
            self._parts.episode_log.close()
        self._parts.rollout_videos.close()
