"""Ablations: what success is left without vision, or with the wrong instruction."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pi0.records import Chunk, Observation, ObservationSpec, Sampling
from pi0.ript.interfaces import Policy

GRAY = 128


class NoVisionPolicy:
    """Acts on gray images; proprioception and instruction are untouched."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def spec(self) -> ObservationSpec:
        """Return which images the policy needs."""
        return self._policy.spec

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return action chunks, as ``Policy.act`` does, for gray images."""
        gray = [
            replace(observation, images=np.full_like(observation.images, GRAY))
            for observation in observations
        ]
        return self._policy.act(gray, tasks, seeds, sampling)


class WrongInstructionPolicy:
    """Acts on the instruction of another task; images and proprioception are untouched."""

    def __init__(self, policy: Policy, wrong: Mapping[str, str]) -> None:
        """Wrap a policy.

        Args:
            policy: What acts.
            wrong: Right instruction -> the wrong one given instead.
        """
        self._policy = policy
        self._wrong = dict(wrong)

    @property
    def spec(self) -> ObservationSpec:
        """Return which images the policy needs."""
        return self._policy.spec

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return action chunks, as ``Policy.act`` does, for the wrong instructions."""
        return self._policy.act(
            observations, [self._wrong[task] for task in tasks], seeds, sampling
        )


def next_instruction(tasks: Sequence[str]) -> dict[str, str]:
    """Return every instruction with the one that follows it, the last with the first."""
    if len(set(tasks)) < 2:
        raise ValueError(f"a wrong instruction needs at least two tasks, got {list(tasks)}")
    return dict(zip(tasks, [*tasks[1:], tasks[0]], strict=True))
