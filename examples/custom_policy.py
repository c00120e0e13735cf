"""A policy of your own: anything with ``spec`` and ``act``. Here it steers straight to the toy's goal.

python -m examples.custom_policy
"""

from collections.abc import Iterator, Sequence

import numpy as np

from examples.toy_simulator import GOAL, SPEC, STEP, ToyPool, instruct, toy_request
from pi0.records import Chunk, Observation, Sampling
from pi0.ript.env.rollout.scheduler import Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.types import Episode, EpisodeRequest

HORIZON = 4


class SteeringPolicy:
    """Computes every action chunk from its own observation and seed, never from others of the batch."""

    spec = SPEC

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return one action chunk per observation; exploration noise comes from its seed."""
        pairs = zip(observations, seeds, strict=True)
        return [self._chunk(seed, sampling.noise_scale, observation) for observation, seed in pairs]

    def _chunk(self, seed: int, noise_scale: float, observation: Observation) -> Chunk:
        noise = np.random.default_rng(seed).normal(size=(HORIZON, 7))
        actions = noise_scale * noise
        # A chunk is executed without further observations, so each step covers its share of the way.
        actions[:, :2] += (GOAL - observation.proprio[:2]) / STEP / HORIZON
        actions = np.clip(actions, -1, 1).astype(np.float32)
        # An update scores the denoising chain again; this policy has nothing to learn.
        chain = np.stack([noise.astype(np.float32), actions])
        return Chunk(actions=actions, chain=chain, is_stochastic=noise_scale > 0)


def run(requests: Iterator[EpisodeRequest], noise_scale: float = 0.0) -> list[Episode]:
    """Run the requests on four slots with one policy."""
    with ToyPool(num_slots=4) as pool:
        return list(
            Scheduler(
                pool,
                SteeringPolicy(),
                lambda: next(requests, None),
                sampling=Sampling(num_steps=1, noise_scale=noise_scale),
                batch_size=4,
                max_attempts=1,
                max_restarts=0,
                stats=RolloutStats(),
                instruct=instruct,
            ).run()
        )


if __name__ == "__main__":
    for noise in (0.0, 1.0, 3.0):
        done = run((toy_request(n % 8, seed=n) for n in range(64)), noise)
        share = sum(episode.outcome == "success" for episode in done) / len(done)
        print(f"noise {noise}: {share:.0%} of {len(done)} episodes reached the goal")
