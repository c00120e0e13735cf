"""When practice happens: in turn with the updates, or one step ahead of them (``overlap.py``)."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pi0.ript.algo.selection import SolvedStates
from pi0.ript.engine.threads import all_cores
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.interfaces import Policy
from pi0.ript.train.collect import Collection
from pi0.ript.train.initial_states import InitialStateSampler

Collect = Callable[[int, Policy], tuple[Collection, RolloutStats]]
"""RIPT step and who acts -> what was collected and what it cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Practised:
    """A collection and how it came about.

    Attributes:
        collection: What was collected.
        stats: What it cost.
        seconds: Wall seconds it took.
        staleness: Updates that the weights that acted are behind those that learn from it.
    """

    collection: Collection
    stats: RolloutStats
    seconds: float
    staleness: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a collection begins in the order of initial states.

    Attributes:
        position: ``InitialStateSampler.position``.
        solved: ``SolvedStates.counters()``.
    """

    position: int
    solved: Mapping[str, int]


class Order:
    """The order in which initial states are practised."""

    def __init__(self, states: InitialStateSampler, solved: SolvedStates) -> None:
        self._states = states
        self._solved = solved

    @property
    def place(self) -> Place:
        """Return where the next initial state will be taken."""
        return Place(position=self._states.position, solved=self._solved.counters())


class Practice(Protocol):
    """Brings the collection of every step, in order: ``take``, ``go_on``, ``take``, ``go_on``."""

    def take(self, step: int) -> Practised:
        """Return the collection of a step, waiting for it."""
        ...

    def go_on(self, step: int | None) -> Sequence[Tensor] | None:
        """Turn to the step after the one taken; None if there is none.

        Returns:
            The trained weights that acted in the step taken, where they are not the policy's own; valid
            until the next call.
        """
        ...

    def rest(self) -> None:
        """Wait until the simulators are idle; what they collected is kept for ``take``."""
        ...

    @property
    def place(self) -> Place:
        """Return where the collection of the step turned to begins."""
        ...

    def acting(self) -> Mapping[str, Tensor]:
        """Return the trained weights that act in the step turned to, on the CPU; empty for the policy's own."""
        ...

    def learning_threads(self) -> AbstractContextManager[None]:
        """Let torch use the CPU threads that practice leaves to an update, inside the block."""
        ...

    def close(self) -> None:
        """Give up what has not been taken; safe to call twice."""
        ...


class InTurn:
    """Practise with the newest weights, then learn, then practise again."""

    def __init__(self, policy: Policy, collect: Collect, order: Order) -> None:
        self._policy = policy
        self._collect = collect
        self._order = order

    def take(self, step: int) -> Practised:
        """Collect."""
        return practise(self._collect, step, self._policy)

    def go_on(self, step: int | None) -> None:
        """Wait for the weights of the update."""

    def rest(self) -> None:
        """Nothing is under way between steps."""

    @property
    def place(self) -> Place:
        """Return where the next collection begins."""
        return self._order.place

    def acting(self) -> dict[str, Tensor]:
        """Return nothing: the policy's own weights act."""
        return {}

    def learning_threads(self) -> AbstractContextManager[None]:
        """Return all cores: no simulator runs during an update."""
        return all_cores()

    def close(self) -> None:
        """Nothing is under way."""


def practise(collect: Collect, step: int, policy: Policy) -> Practised:
    """Collect a step by the clock."""
    start = time.monotonic()
    collection, stats = collect(step, policy)
    return Practised(collection=collection, stats=stats, seconds=time.monotonic() - start)
