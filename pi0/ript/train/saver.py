"""When a run leaves checkpoints, and what of its parts goes into them."""

from pi0.ript.engine.pieces import is_spread
from pi0.ript.train.checkpoint import TrainingState, save_checkpoint
from pi0.ript.train.parts import TrainerParts
from pi0.ript.train.practice import Practice
from pi0.ript.train.progression import Position


class Saver:
    """Writes the checkpoints of one trainer.

    Args:
        parts: Of the trainer.
        practice: Of the trainer.
        keep: Newest checkpoints kept.
    """

    def __init__(self, parts: TrainerParts, practice: Practice, keep: int) -> None:
        self._parts = parts
        self._practice = practice
        self._keep = keep
        self.saved_step: int | None = None

    def save_beginning(self, position: Position) -> None:
        """Leave a checkpoint of a new run, so that it can be resumed from its first moment on."""
        if (self._parts.run_dir / "checkpoints" / str(position.step)).is_dir():
            self.saved_step = position.step
        elif position.step == 0:
            self.save(position)

    def save_once(self, position: Position) -> None:
        """Leave a checkpoint unless that of the same step is the newest one."""
        if self.saved_step != position.step:
            self.save(position)

    def save(self, position: Position) -> None:
        """Leave a checkpoint; rank 0 writes it, ranks that share the optimizer all call this."""
        self.saved_step = position.step
        engine_state, ranks = self._parts.engine.state(), self._parts.ranks
        if ranks.rank != 0 and not is_spread(engine_state.tensors):
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
            self._keep,
            protected=self._parts.guard.protected_step,
            ranks=ranks,
        )
