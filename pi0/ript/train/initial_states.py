"""The endless, seeded order in which rollouts begin in initial states, and where their fixtures stand."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pi0.ript.config.task import Fixtures
from pi0.ript.seeding import derive_seed, practice_fixtures
from pi0.ript.types import InitialState


class InitialStateSampler:
    """Deals every candidate once per epoch, reshuffled each epoch, tasks in turn; resumable from a number.

    Tasks with equally many states take part in every round once, in an order of chance; one with twice as
    many takes part twice as often. So every training step has all tasks, and none crowds out another.
    Under ``per_episode`` a state has other fixture poses in every epoch, the same for all its rollouts.

    Example: ``InitialStateSampler(states, "per_episode", seed=42, cursor=120).next()``.

    Args:
        candidates: Initial states to begin in; their order matters for reproducibility.
        fixtures: Whether fixtures are drawn for every state dealt, or stand as the candidates have it.
        seed: Run seed.
        cursor: States taken before; a stored ``cursor`` continues where it was read.
    """

    def __init__(
        self, candidates: Sequence[InitialState], fixtures: Fixtures, seed: int, cursor: int = 0
    ) -> None:
        if not candidates:
            raise ValueError("no initial state to begin in: check task.task_names_to_use")
        if cursor < 0:
            raise ValueError(f"cursor of the initial-state order must be >= 0, got {cursor}")
        self.candidates = tuple(candidates)
        self._draws_fixtures = fixtures == "per_episode"
        self._seed = seed
        self._cursor = cursor
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    @property
    def cursor(self) -> int:
        """Return how many states have been taken; may be set back to an earlier number."""
        return self._cursor

    @cursor.setter
    def cursor(self, num_taken: int) -> None:
        self._cursor = num_taken

    def next(self) -> InitialState:
        """Return the next state of the order."""
        epoch, offset = divmod(self._cursor, len(self.candidates))
        if epoch != self._epoch:
            generator = np.random.default_rng(derive_seed(self._seed, "initial_states", epoch))
            self._order = self._in_turn(generator.permutation(len(self.candidates)))
            self._epoch = epoch
        self._cursor += 1
        state = self.candidates[self._order[offset]]
        return self._with_fixtures(state, epoch) if self._draws_fixtures else state

    def _with_fixtures(self, state: InitialState, epoch: int) -> InitialState:
        seed = practice_fixtures(self._seed, state.suite, state.task_id, state.index, epoch)
        return replace(state, fixture_seed=seed)

    def _in_turn(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the order with the states of every task spread evenly over it."""
        states = (self.candidates[number] for number in order)
        tasks = [(state.suite, state.task_id) for state in states]
        total, dealt = Counter(tasks), Counter[tuple[str, int]]()
        share = np.empty(len(tasks))
        for index, task in enumerate(tasks):
            share[index] = (dealt[task] + 0.5) / total[task]
            dealt[task] += 1
        return order[np.argsort(share, kind="stable")]
