"""Practise one step ahead: simulators work on the next step while the learner updates.

    simulators  | step 1, w0 | step 2, w0 | step 3, w1 | step 4, w2 |
    learner                  | w0 -> w1   | w1 -> w2   | w2 -> w3   |

From the second step on, the weights that acted are one update behind those that their collection changes,
never more; the objective is told which weights acted. Collections come one after the other, so initial
states are dealt in the same order as without overlap, and an episode depends on its seed and the acting
weights only: what is collected does not depend on how fast the learner is.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import Event

import torch
from torch import Tensor

from pi0.frozen_copy import copy_weights, make_frozen_copy, trained_weights
from pi0.policy import Pi0Policy
from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.ript.engine.threads import leave_cores_to_simulators
from pi0.ript.interfaces import Policy
from pi0.ript.train.collector import Collect, Order, Place, Practised, practise


class OneAhead:
    """Collects in a thread of its own, acting with a frozen copy of what is trained.

    Args:
        policy: What is trained; every trained parameter is copied twice.
        collect: Collects a step.
        order: The order of initial states.
        acting: What ``acting`` returned for a checkpoint; empty at the beginning of a run.
    """

    def __init__(
        self, policy: Pi0Policy, collect: Collect, order: Order, acting: Mapping[str, Tensor]
    ) -> None:
        self._policy = policy
        self._collect = collect
        self._order = order
        self._place = order.place
        frozen_copy = make_frozen_copy(policy)
        self._acting = trained_weights(frozen_copy)
        self._acted = [weight.clone() for weight in self._acting]
        if acting:
            _load(self._acting, acting)
        self._actor = _Actor(frozen_copy)
        # Threads of torch that wait for each other would starve the simulators.
        self._thread = ThreadPoolExecutor(1, "practice", initializer=leave_cores_to_simulators)
        self._under_way: Future[Practised] | None = None
        self._is_stale = False

    def take(self, step: int) -> Practised:
        """Wait for the collection of a step."""
        if self._under_way is None:
            self._begin(step)
        assert self._under_way is not None
        practised = self._under_way.result()
        # Nothing was learnt before the first step, so the same weights act in the first two.
        self._is_stale = step > 1
        return replace(practised, staleness=int(self._is_stale))

    def go_on(self, step: int | None) -> Sequence[Tensor] | None:
        """Let the newest weights act and begin to collect ``step``; return those that acted before."""
        self._under_way = None
        copy_weights(self._acted, self._acting)
        copy_weights(self._acting, trained_weights(self._policy))
        self._place = self._order.place
        if step is not None:
            self._begin(step)
        return self._acted if self._is_stale else None

    def rest(self) -> None:
        """Wait for the collection under way; if it failed, ``take`` says so."""
        if self._under_way is not None:
            wait([self._under_way])

    @property
    def place(self) -> Place:
        """Return where the collection under way began, or where the next one will."""
        return self._place

    def acting(self) -> dict[str, Tensor]:
        """Return the acting weights by their number, on the CPU."""
        return {str(n): weight.to("cpu", copy=True) for n, weight in enumerate(self._acting)}

    def learning_threads(self) -> AbstractContextManager[None]:
        """Leave the number of threads alone: simulators need the cores."""
        return nullcontext()

    def close(self) -> None:
        """Stop acting before the next decision and wait until the simulators are idle."""
        self._actor.stop()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _begin(self, step: int) -> None:
        _finish_copies(self._policy.device)
        self._under_way = self._thread.submit(self._practise, step)

    def _practise(self, step: int) -> Practised:
        with _own_stream(self._policy.device):
            return practise(self._collect, step, self._actor)


class StoppedError(RuntimeError):
    """Practice was given up; nobody takes what it collected."""


class _Actor:
    """A policy that can be stopped from another thread."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._is_stopped = Event()

    @property
    def spec(self) -> ObservationSpec:
        """Return which pictures the policy wants."""
        return self._policy.spec

    def stop(self) -> None:
        """Answer nothing from here on."""
        self._is_stopped.set()

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Answer every row in one batched call."""
        if self._is_stopped.is_set():
            raise StoppedError("practice was given up")
        return self._policy.act(observations, tasks, seeds, sampling)


def _load(weights: Sequence[Tensor], stored: Mapping[str, Tensor]) -> None:
    shapes = [tuple(weight.shape) for weight in weights]
    found = [tuple(stored[str(n)].shape) for n in range(len(stored)) if str(n) in stored]
    if found != shapes:
        raise ValueError(
            f"the checkpoint holds {len(found)} acting weights that do not fit the {len(shapes)} "
            "that are trained; it was trained with another policy or policy.train_expert_only"
        )
    copy_weights(weights, [stored[str(n)] for n in range(len(stored))])


def _own_stream(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which a GPU does not queue acting behind the update."""
    if device.type != "cuda":
        return nullcontext()
    return torch.cuda.stream(torch.cuda.Stream(device))


def _finish_copies(device: torch.device) -> None:
    """Wait until copied weights are there, for a thread that uses a stream of its own."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
