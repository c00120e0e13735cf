"""The RIPT loop: collect, compare, update, log."""

import logging
from collections.abc import Sequence
from contextlib import closing

from torch import Tensor

from pi0.ript.algo.advantages import group_advantages
from pi0.ript.config.schema import TrainConfig
from pi0.ript.config.sections import Measure
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.learner.batch import idle_batch, make_batch
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.learner.update import update
from pi0.ript.seeding import derive_seed
from pi0.ript.train.metrics import step_metrics
from pi0.ript.train.nan_guard import inspectable, require_finite_metrics
from pi0.ript.train.parts import TrainerParts
from pi0.ript.train.progression import Progression, Stopwatch
from pi0.ript.train.regression_guard import roll_back
from pi0.ript.train.rollouts import Rollouts
from pi0.ript.train.saver import Saver
from pi0.ript.train.signals import raise_if_stopped
from pi0.ript.types import Batch

logger = logging.getLogger(__name__)


class Trainer:
    """Runs RIPT from wherever ``progress`` stands.

    Attributes:
        parts: What it is made of.
        progress: The counters of the run.
        checkpoints: Writes them.
    """

    def __init__(self, config: TrainConfig, parts: TrainerParts, progress: Progression) -> None:
        self._config = config
        self.parts = parts
        self.progress = progress
        self.checkpoints = Saver(parts, progress)

    def train(self) -> None:
        """Train until the last step or the target, leaving a checkpoint of the end."""
        collector, stages = self.parts.collector, self.parts.stages
        collector.announce_videos()
        with closing(collector):
            while not self.progress.is_done:
                raise_if_stopped()
                self.checkpoints.raise_if_failed()
                self.evaluate_if_due()  # the regression guard decides before the next step
                step, watch = self.progress.step + 1, Stopwatch()
                with watch.measure("collect"):
                    rollouts = collector.collect(step)  # groups of K episodes of one initial state
                progress = self.progress.after(rollouts)
                with watch.measure("update"), stages.of_step(step, "update"):
                    advantages = group_advantages(rollouts.rewards, rollouts.mean_reward)  # [G, K]
                    batch = self._batch(rollouts, advantages)  # B policy steps
                    self.checkpoints.begin_update()
                    # Older weights if simulators go on during the update, else None: the policy's own.
                    behavior = collector.prefetch(None if progress.is_done else step + 1)
                    stats = self._update(step, rollouts, batch, behavior)
                self._log(progress, rollouts, stats, watch)
                self._finish(progress)
                del rollouts, batch  # the next collection needs the room of their images
        self.checkpoints.settle()

    def evaluate_if_due(self) -> None:
        """Measure the policy if it is time; a regression puts an earlier one back or ends the run."""
        every, step = self._config.evaluation.every, self.progress.step
        if every > 0 and step % every == 0 and self._is_worse(self.evaluate(step)):
            self._go_back()
        self._judge_rollouts()

    def evaluate_last(self) -> list[EpisodeRecord]:
        """See whether the last step helped; return the held-out records of the policy that is kept."""
        self._judge_rollouts()
        records = self.evaluate(self.progress.step)
        if not self._is_worse(records):
            return records
        # First, so that a run killed in between never takes these records for those of the policy put back.
        self.parts.evaluator.set_aside(self.progress.step)
        self._go_back()
        self.checkpoints.settle()
        return self.evaluate(self.progress.step)

    def evaluate(self, step: int) -> list[EpisodeRecord]:
        """Return the held-out records after ``step``: from disk, or of the current policy; a collective."""
        with self.parts.stopwatch.measure("evaluate"):
            return self.parts.evaluator.records(step, is_current=step == self.progress.step)

    def close(self) -> None:
        """Flush and release what records the run."""
        self.checkpoints.close()
        self.parts.reporter.close()
        if self.parts.episode_log:
            self.parts.episode_log.close()
        self.parts.rollout_videos.close()

    def _batch(self, rollouts: Rollouts, advantages: Tensor) -> Batch:
        """Return the samples of this rank, which has none where all accepted groups are of others."""
        algo = self._config.algo
        if not rollouts.groups:
            return idle_batch(self.parts.policy.card, self._config.policy.denoise_steps)
        return make_batch(
            rollouts.groups, advantages, algo.loss_aggregation, algo.cfg, rollouts.totals
        )

    def _update(
        self, step: int, rollouts: Rollouts, batch: Batch, behavior: Sequence[Tensor] | None
    ) -> UpdateStats | None:
        config, parts = self._config, self.parts
        stats = None
        if rollouts.lr_share(config.algo) > 0:
            num_shares = rollouts.totals.num_shares(config.algo.loss_aggregation)
            batch = parts.replay.join(step, batch, num_shares)
            saving = inspectable(batch, parts.run_dir, step, parts.ranks)
            with parts.collector.update_threads(), saving:
                stats = update(
                    parts.policy,
                    parts.engine,
                    batch,
                    parts.objective,
                    config.algo,
                    config.algo.sampling(step, config.policy.denoise_steps),
                    derive_seed(config.training.seed, "update", step),
                    has_frozen_prefix=config.policy.has_frozen_prefix,
                    lr_share=rollouts.lr_share(config.algo),
                    behavior_weights=behavior,
                    critic=parts.critic,
                    ranks=parts.ranks,
                )
            if stats is not None:
                parts.replay.keep(step, batch, num_shares, parts.objective)
        if stats is None:
            text = "step %d: update skipped, no group to learn from; collection %s"
            logger.warning(text, step, rollouts.description)
        return stats

    def _log(
        self,
        progress: Progression,
        rollouts: Rollouts,
        stats: UpdateStats | None,
        watch: Stopwatch,
    ) -> None:
        step = progress.step
        self.parts.stopwatch.add(watch)
        metrics = {
            **step_metrics(rollouts, stats, progress, watch),
            **self.parts.memory.metrics(),
        }
        # Before the checkpoint: a run killed in between resumes before this step and writes them again.
        if self.parts.episode_log:
            self.parts.episode_log.log(step, rollouts.records)
        self.parts.reporter.log(step, metrics)
        require_finite_metrics(step, metrics)

    def _finish(self, progress: Progression) -> None:
        self.progress = progress
        self.parts.stages.num_finished = progress.step
        self.checkpoints.finish(progress)
        self.checkpoints.save_if_due(progress)

    def _judge_rollouts(self) -> None:
        if self.progress.recent_success:
            # Raises if at all: success of rollouts stops runs and puts nothing back.
            self._has_regressed("practice", self.progress.recent_success[-1])

    def _is_worse(self, records: Sequence[EpisodeRecord]) -> bool:
        complete = [record.is_success for record in records if record.is_complete]
        # Where every episode crashed nothing is known of the policy.
        return bool(complete) and self._has_regressed("held_out", sum(complete) / len(complete))

    def _has_regressed(self, measure: Measure, rate: float) -> bool:
        """Keep the checkpoint of the best policy; return whether success has fallen too far below it.

        Raises:
            RegressionError: It has, and ``training.regression_guard`` says that the run ends.
        """
        guard, step = self.parts.guard, self.progress.step
        verdict = guard.add(measure, step, rate)
        if verdict == "best" and guard.protected_step is not None:
            self.checkpoints.save_once()
        if verdict != "regressed":
            return False
        guard.stop_or_warn(step, rate)
        return True

    def _go_back(self) -> None:
        """Put back the policy of the best evaluation, as that of this step."""
        parts = self.parts
        self.checkpoints.settle()
        parts.ranks.gather_text("the best checkpoint is on the disk")
        best = parts.run_dir / "checkpoints" / str(parts.guard.best_step)
        roll_back(best, parts.policy, parts.engine, parts.objective, parts.critic)
        self.checkpoints.finish(self.progress)
        self.checkpoints.save()
