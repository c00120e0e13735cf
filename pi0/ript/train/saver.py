"""When a run leaves checkpoints, and what of its parts goes into them."""

from itertools import chain

from pi0.ript.engine.sharded_tensors import is_sharded
from pi0.ript.engine.single import EngineState
from pi0.ript.train.checkpoint import TrainingState, save_checkpoint
from pi0.ript.train.collector import Practice
from pi0.ript.train.nan_guard import require_finite_tensors, trained_weights
from pi0.ript.train.parts import TrainerParts
from pi0.ript.train.progression import Position, Progression, Stopwatch


class Saver:
    """Writes the checkpoints of one trainer, each of the step that was settled last.

    Args:
        parts: Of the trainer.
        practice: Of the trainer.
        keep: Newest checkpoints kept.
        progression: Where the run begins or goes on.
        stopwatch: Of the whole run.
    """

    def __init__(
        self,
        parts: TrainerParts,
        practice: Practice,
        keep: int,
        progression: Progression,
        stopwatch: Stopwatch,
    ) -> None:
        self._parts = parts
        self._practice = practice
        self._keep = keep
        self._stopwatch = stopwatch
        self.saved_step: int | None = None
        self.settle(progression)

    def settle(self, progression: Progression) -> None:
        """Note that a step is finished: where everything stands at this moment is what is saved."""
        place = self._practice.place
        self._settled = Position(
            step=progression.step,
            sampler_position=place.position,
            counters={
                **progression.counters(),
                **self._stopwatch.counters(),
                **place.solved,
                **self._parts.guard.counters(),
            },
        )

    def save_beginning(self) -> None:
        """Leave a checkpoint of a new run, so that it can be resumed from its first moment on."""
        step = self._settled.step
        if (self._parts.run_dir / "checkpoints" / str(step)).is_dir():
            self.saved_step = step
        elif step == 0:
            self.save()

    def save_once(self) -> None:
        """Leave a checkpoint unless that of the same step is the newest one."""
        if self.saved_step != self._settled.step:
            self.save()

    def save(self) -> None:
        """Leave a checkpoint; rank 0 writes it, ranks that share the optimizer all call this.

        Raises:
            StepNotFiniteError: A weight or a moment of the optimizer holds NaN or infinity.
            OSError: It cannot be written.
        """
        engine_state = self._parts.engine.state()
        if self._parts.ranks.rank == 0 or is_sharded(engine_state.tensors):
            self._write(engine_state)
        self.saved_step = self._settled.step

    def _write(self, engine_state: EngineState) -> None:
        position = self._settled
        state = TrainingState(
            step=position.step,
            engine=engine_state,
            sampler_position=position.sampler_position,
            counters=position.counters,
            objective=self._parts.objective.state(),
            config_hash=self._parts.config_hash,
            acting=self._practice.acting(),
        )
        require_finite_tensors(
            position.step,
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
            self._keep,
            protected=self._parts.guard.protected_step,
            ranks=self._parts.ranks,
        )
