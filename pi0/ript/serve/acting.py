"""Requests -> action chunks, by the policy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.client_observation import to_observation
from pi0.description import describe_policy, weights_digest
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.serve.requests import ActionRequest


class ServedPolicy:
    """A policy as the server calls it: deterministic denoising, whole action chunks."""

    def __init__(self, policy: Pi0Policy, num_steps: int) -> None:
        """Take a loaded policy and its denoise steps."""
        self._policy = policy
        self.sampling = Sampling(num_steps=num_steps)

    def __call__(self, requests: Sequence[ActionRequest]) -> list[NDArray[np.float32]]:
        """Return float32 [H, 7] for every request: H actions, of which ``policy.act`` executes the first h."""
        policy = self._policy
        observations = [to_observation(each.observation, policy.card) for each in requests]
        chunks = policy.act(
            observations,
            [each.prompt for each in requests],
            [each.seed for each in requests],
            self.sampling,
        )
        ends = np.stack([chunk.chain[-1] for chunk in chunks])
        states = np.stack([observation.proprio for observation in observations])
        return list(policy.codec.decode_actions(ends, states))

    def metadata(self) -> dict[str, Any]:
        """Return what a client is told when it connects: the policy card, plain values only."""
        return describe_policy(self._policy) | {
            "weights": weights_digest(self._policy),
            "denoise_steps": self.sampling.num_steps,
        }
