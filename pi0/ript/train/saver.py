"""When a run leaves checkpoints, and what of its parts goes into them.

What is saved is copied between two steps; it is written while the next step is collected.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import chain
from pathlib import Path

from pi0.ript.engine.engine import EngineState
from pi0.ript.engine.sharded_tensors import is_sharded
from pi0.ript.engine.torch_settings import leave_cores_to_simulators
from pi0.ript.train.checkpoints.state import PolicySnapshot, TrainingState
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
        # Threads of torch that wait for each other would starve the simulators.
        self._thread = ThreadPoolExecutor(1, "checkpoint", initializer=leave_cores_to_simulators)
        self._writing: tuple[int, Future[Path]] | None = None
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
                **cursor.selection,
                **self._parts.guard.counters(),
            },
        )
        self._is_last = progress.is_done
        self._is_updating = False

    def save_beginning(self) -> None:
        """Leave a checkpoint of a new run, so that it can be resumed from its first moment on."""
        step = self._finished.step
        if (self._parts.run_dir / "checkpoints" / str(step)).is_dir():
            self.saved_step = step
        elif step == 0:
            self.save()
            self.settle()

    def save_if_due(self, progress: Progression) -> None:
        """Leave a checkpoint of a finished step if it is one of those, or the last."""
        if progress.step % self._training.save_freq == 0 or progress.is_done:
            with self._parts.stopwatch.measure("checkpoint"):
                self.save()

    def save_interrupted(self) -> int | None:
        """Leave a checkpoint of the last finished step, in the middle of whatever was interrupted.

        Weights that an unfinished update may have changed belong to no step and are not saved, nor is
        anything where every rank writes a part, because that is a collective.

        Returns:
            The step after which a resumed run goes on; None if there is no checkpoint at all.
        """
        self.settle()
        is_collective = self._parts.engine.needs_equal_passes or self._all_ranks_replay
        if not self._is_updating and not is_collective:
            self.save_once()
            self.settle()
        return self.saved_step

    def save_once(self) -> None:
        """Leave a checkpoint unless that of the same step is the newest one."""
        self.settle()
        if self.saved_step != self._finished.step:
            self.save()

    def save(self) -> None:
        """Leave a checkpoint; rank 0 writes it, ranks that write together all call this.

        It is on the disk after ``settle``; where ranks write together, at once.

        Raises:
            StepNotFiniteError: A weight or a moment of the optimizer holds NaN or infinity.
            OSError: It, or the one before, cannot be written.
        """
        self.settle()
        engine_state, step = self._parts.engine.state(), self._finished.step
        if is_sharded(engine_state.tensors) or self._all_ranks_replay:
            self._prepare(engine_state)()
        elif self._parts.ranks.rank == 0:
            self._writing = step, self._thread.submit(self._prepare(engine_state))
            return
        self.saved_step = step

    def settle(self) -> None:
        """Wait until the newest checkpoint is on the disk.

        Raises:
            OSError: It cannot be written.
        """
        if self._writing is None:
            return
        step, writing = self._writing
        wait([writing])  # a signal that ends this leaves it for the next call
        self._writing = None
        writing.result()
        self.saved_step = step

    def raise_if_failed(self) -> None:
        """Raise OSError if it is known already that the newest checkpoint cannot be written."""
        if self._writing is not None and self._writing[1].done():
            self.settle()

    def close(self) -> None:
        """Wait until nothing is being written."""
        self._thread.shutdown()

    @property
    def _all_ranks_replay(self) -> bool:
        """Return whether there are several ranks, each of which has samples of earlier steps to write."""
        return self._parts.replay.num_steps > 0 and self._parts.ranks.world_size > 1

    def _prepare(self, engine_state: EngineState) -> Callable[[], Path]:
        """Return what writes the checkpoint; all that may change until then has been copied."""
        finished = self._finished
        state = TrainingState(
            step=finished.step,
            engine=engine_state,
            sampler_position=finished.sampler_position,
            counters=finished.counters,
            objective=self._parts.objective.state(),
            critic={} if self._parts.critic is None else self._parts.critic.state(),
            config_hash=self._parts.config_hash,
            # before the first optimizer step all weights are those that the run begins with
            acting=self._parts.collector.behavior_weights() if engine_state.num_steps else {},
            replay=self._parts.replay.kept if self._parts.replay.num_steps else None,
        )
        require_finite_tensors(
            finished.step,
            chain(
                trained_weights(self._parts.policy),
                engine_state.tensors.items(),
                state.objective.items(),
                state.acting.items(),
                state.critic.items(),
            ),
        )
        snapshot = PolicySnapshot.of(
            self._parts.policy,
            self._parts.base,
            is_whole=self._is_last or self._training.save_full_policy == "all",
            has_changed=engine_state.num_steps > 0,
        )
        return partial(
            save_checkpoint,
            self._parts.run_dir,
            snapshot,
            state,
            self._training.keep_checkpoints,
            protected=self._parts.guard.protected_step,
            ranks=self._parts.ranks,
        )
