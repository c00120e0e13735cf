"""Collecting one step ahead: simulators work on the next step while the learner updates.

    simulators  | step 1, w0 | step 2, w0 | step 3, w1 | step 4, w2 |
    learner                  | w0 -> w1   | w1 -> w2   | w2 -> w3   |

From the second step on, the behavior weights are one update behind those that learn from their rollouts,
never more; the objective is told which they were. Steps are collected one after the other, so initial
states are dealt in the same order as without overlap, and an episode depends on its seed and the behavior
weights only: what is collected does not depend on how fast the learner is.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from threading import Event

import torch
from torch import Tensor

from pi0.frozen_copy import copy_weights, make_frozen_copy, trained_weights
from pi0.policy import Pi0Policy
from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.ript.engine.torch_settings import leave_cores_to_simulators
from pi0.ript.interfaces import Policy
from pi0.ript.train.collector import Collector, Cursor
from pi0.ript.train.rollouts import Rollouts


class AsyncCollector:
    """Collects in a thread of its own, acting with a frozen copy of what is trained; see ``Collector``.

    Args:
        policy: What is trained; every trained parameter is copied twice.
        collector: Collects a step; from here on it acts with the frozen copy.
        behavior: What ``behavior_weights`` returned for a checkpoint; empty at the beginning of a run.
    """

    def __init__(
        self, policy: Pi0Policy, collector: Collector, behavior: Mapping[str, Tensor]
    ) -> None:
        self._policy = policy
        self._cursor = collector.cursor
        frozen_copy = make_frozen_copy(policy)
        self._acting = trained_weights(frozen_copy)
        self._acted = [weight.clone() for weight in self._acting]
        if behavior:
            _load(self._acting, behavior)
        self._actor = _Actor(frozen_copy)
        self._collector = replace(collector, policy=self._actor)
        # Threads of torch that wait for each other would starve the simulators.
        self._thread = ThreadPoolExecutor(1, "collector", initializer=leave_cores_to_simulators)
        self._prefetched: Future[Rollouts] | None = None
        self._is_stale = False

    def collect(self, step: int) -> Rollouts:
        """Wait for the rollouts of a step."""
        if self._prefetched is None:
            self._begin(step)
        assert self._prefetched is not None
        rollouts = self._prefetched.result()
        # No update came before the first step, so the same weights act in the first two.
        self._is_stale = step > 1
        return replace(rollouts, staleness=int(self._is_stale))

    def prefetch(self, step: int | None) -> Sequence[Tensor] | None:
        """Let the newest weights act and begin to collect ``step``; return those that acted before."""
        self._prefetched = None
        copy_weights(self._acted, self._acting)
        copy_weights(self._acting, trained_weights(self._policy))
        self._cursor = self._collector.cursor
        if step is not None:
            self._begin(step)
        return self._acted if self._is_stale else None

    @property
    def cursor(self) -> Cursor:
        """Return where the step that is being collected began, or where the next one will."""
        return self._cursor

    def behavior_weights(self) -> dict[str, Tensor]:
        """Return the acting weights by their number, on the CPU."""
        return {str(n): weight.to("cpu", copy=True) for n, weight in enumerate(self._acting)}

    def update_threads(self) -> AbstractContextManager[None]:
        """Leave the number of threads alone: simulators need the cores."""
        return nullcontext()

    def announce_videos(self) -> None:
        """Log what videos will cost the simulators in every step of the run."""
        self._collector.announce_videos()

    def close(self) -> None:
        """Stop acting before the next policy step and wait until the simulators are idle."""
        self._actor.stop()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._collector.close()

    def _begin(self, step: int) -> None:
        _finish_copies(self._policy.device)
        self._prefetched = self._thread.submit(self._collect, step)

    def _collect(self, step: int) -> Rollouts:
        with _own_stream(self._policy.device):
            return self._collector.collect(step)


class StoppedError(RuntimeError):
    """Collecting was given up; nothing uses what it collected."""


class _Actor:
    """A policy that can be stopped from another thread."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._is_stopped = Event()

    @property
    def spec(self) -> ObservationSpec:
        """Return which images the policy wants."""
        return self._policy.spec

    def stop(self) -> None:
        """Refuse every further call."""
        self._is_stopped.set()

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return an action chunk for every sample in one batched call."""
        if self._is_stopped.is_set():
            raise StoppedError("collecting was given up")
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
