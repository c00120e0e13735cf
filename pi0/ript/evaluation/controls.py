"""Negative controls: what is left of a policy that cannot see, or that is told the wrong task."""

from collections.abc import Mapping, Sequence

import numpy as np

from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.ript.interfaces import Policy

GREY = 128


class NoVisionPolicy:
    """Acts on grey pictures; proprioception and instruction are untouched."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def spec(self) -> ObservationSpec:
        """Return which pictures the policy wants."""
        return self._policy.spec

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Answer without having looked."""
        grey = [
            Observation(images=np.full_like(observation.images, GREY), proprio=observation.proprio)
            for observation in observations
        ]
        return self._policy.act(grey, tasks, seeds, sampling)


class WrongInstructionPolicy:
    """Is given the instruction of another task; pictures and proprioception are untouched."""

    def __init__(self, policy: Policy, told: Mapping[str, str]) -> None:
        """Wrap a policy.

        Args:
            policy: What acts.
            told: Right instruction -> the wrong one given instead.
        """
        self._policy = policy
        self._told = dict(told)

    @property
    def spec(self) -> ObservationSpec:
        """Return which pictures the policy wants."""
        return self._policy.spec

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Answer to the wrong instruction."""
        return self._policy.act(observations, [self._told[task] for task in tasks], seeds, sampling)


def next_instruction(tasks: Sequence[str]) -> dict[str, str]:
    """Return every instruction with the one that follows it, the last with the first."""
    if len(set(tasks)) < 2:
        raise ValueError(f"a wrong instruction needs at least two tasks, got {list(tasks)}")
    return dict(zip(tasks, [*tasks[1:], tasks[0]], strict=True))
