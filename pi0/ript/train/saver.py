"""When a run leaves checkpoints, and what of its parts goes into them."""

from itertools import chain

from pi0.ript.engine.sharded_tensors import is_sharded
from pi0.ript.engine.single import EngineState
from pi0.ript.train.checkpoints.state import TrainingState
from pi0.ript.train.checkpoints.store import save_checkpoint
from pi0.ript.train.nan_guard import require_finite_tensors, trained_weights
from pi0.ript.train.parts import TrainerParts
from pi0.ript.train.progression import FinishedStep, Progression


class Saver:
    """Writes the checkpoints of one trainer, each of the step that was finished last.

    From ``begin_update`` to ``finish`` weights and optimizer belong to no step, and nothing is saved.

    Args:
        parts: Of the trainer.
        progress: Where the run begins or goes on.
    """

    def __init__(self, parts: TrainerParts, progress: Progression) -> None:
        self._parts = parts
        self._training = progress.training
        self.saved_step: int | None = None
        self.finish(progress)

    def begin_update(self) -> None:
        """Note that weights and optimizer begin to change."""
        self._is_updating = True

    def finish(self, progress: Progression) -> None:
        """Note that a step is finished: where everything stands at this moment is what is saved."""
        cursor = self._parts.collector.cursor
        self._finished = FinishedStep(
            step=progress.step,
            sampler_position=cursor.num_taken,
            counters={
                **progress.counters(),
                **self._parts.stopwatch.counters(),
                **cursor.solved,
                **self._parts.guard.counters(),
            },
        )
        self._is_updating = False

    def save_beginning(self) -> None:
        """Leave a checkpoint of a new run, so that it can be resumed from its first moment on."""
        step = self._finished.step
        if (self._parts.run_dir / "checkpoints" / str(step)).is_dir():
            self.saved_step = step
        elif step == 0:
            self.save()

    def save_if_due(self, progress: Progression) -> None:
        """Leave a checkpoint of a finished step if it is one of those, or the last."""
        if progress.step % self._training.save_freq == 0 or progress.is_done:
            with self._parts.stopwatch.measure("checkpoint"):
                self.save()

    def save_interrupted(self) -> int | None:
        """Leave a checkpoint of the last finished step, in the middle of whatever was interrupted.

        Weights that an unfinished update may have changed belong to no step and are not saved, nor are
        those of an optimizer that is sharded over ranks, because writing them is a collective.

        Returns:
            The step after which a resumed run goes on; None if there is no checkpoint at all.
        """
        if not self._is_updating and not self._parts.engine.needs_equal_passes:
            self.save_once()
        return self.saved_step

    def save_once(self) -> None:
        """Leave a checkpoint unless that of the same step is the newest one."""
        if self.saved_step != self._finished.step:
            self.save()

    def save(self) -> None:
        """Leave a checkpoint; rank 0 writes it, ranks that shard the optimizer all call this.

        Raises:
            StepNotFiniteError: A weight or a moment of the optimizer holds NaN or infinity.
            OSError: It cannot be written.
        """
        engine_state = self._parts.engine.state()
        if self._parts.ranks.rank == 0 or is_sharded(engine_state.tensors):
            self._write(engine_state)
        self.saved_step = self._finished.step

    def _write(self, engine_state: EngineState) -> None:
        finished = self._finished
        state = TrainingState(
            step=finished.step,
            engine=engine_state,
            sampler_position=finished.sampler_position,
            counters=finished.counters,
            objective=self._parts.objective.state(),
            config_hash=self._parts.config_hash,
            acting=self._parts.collector.behavior_weights(),
        )
        require_finite_tensors(
            finished.step,
            chain(
                trained_weights(self._parts.policy),
                engine_state.tensors.items(),
                state.objective.items(),
                state.acting.items(),
            ),
        )
        save_checkpoint(
            self._parts.run_dir,
            self._parts.policy,
            state,
            self._training.keep_checkpoints,
            protected=self._parts.guard.protected_step,
            ranks=self._parts.ranks,
        )
