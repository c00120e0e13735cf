"""The same episodes by a policy in this process and by openpi's client of ``ript serve``: the same actions?

    python benchmarks/serving_episodes.py [--quick] [--json FILE] [--policy builtin] [--suite libero_goal] [--tasks 7]

Both sides run the requests of ``ript eval`` on the project's simulators. The client sends what openpi's LIBERO example
sends, images turned and of the network's size, position, axis-angle and fingers, and the seed of the episode's noise.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy

from benchmarks.parts.measure import add_output_arguments, write_json
from pi0.codec import raw_state
from pi0.images import resize_with_pad
from pi0.policy import Pi0Policy
from pi0.records import Chunk, Observation, Sampling
from pi0.ript.build_policy import build_policy
from pi0.ript.scripts import eval as eval_program
from pi0.ript.scripts.parts.evaluate_policy import requests_of, to_config
from pi0.ript.scripts.train_ript_pi0 import create_env_runner
from pi0.ript.serve.requests import CAMERA_KEYS
from pi0.ript.types import Episode


class AskingPolicy:
    """Asks a server for every action chunk, as a robot's program does."""

    def __init__(self, policy: Pi0Policy, client: WebsocketClientPolicy) -> None:
        self.card, self.spec, self.protocol = policy.card, policy.card.spec, policy.protocol
        self._client = client

    def act(
        self,
        observations: Sequence[Observation],
        tasks: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
    ) -> list[Chunk]:
        """Return the server's answers; it draws them, so there are no chains."""
        asked = zip(observations, tasks, seeds, strict=True)
        chain = np.zeros((sampling.num_steps + 1, self.card.horizon, self.card.action_dim))
        return [
            Chunk(
                actions=self._ask(*one)[: self.card.execute_steps],
                chain=chain.astype(np.float32),
                is_stochastic=False,
            )
            for one in asked
        ]

    def _ask(self, observation: Observation, task: str, seed: int) -> Any:
        turned = observation.images[None, :, ::-1, ::-1]
        images = resize_with_pad(turned, self.card.image_size, "openpi")[0]
        return self._client.infer(
            {
                CAMERA_KEYS[camera]: image
                for camera, image in zip(self.card.cameras, images, strict=True)
            }
            | {
                "observation/state": raw_state(observation.proprio[None], "axis_angle")[0],
                "prompt": task,
                "seed": seed,
            }
        )["actions"]


@contextmanager
def serving(policy: str, batch_size: int) -> Iterator[int]:
    """Run ``ript serve`` and give its port.

    The last bits of an answer depend on the size that calls are padded to, so it is the evaluation's.
    """
    flags = ["--port", "0", "--policy", policy, "--batch_size", str(batch_size)]
    command = [sys.executable, "-m", "pi0.ript.scripts.cli", "serve", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline().split()[0].rpartition(":")[2])
        finally:
            server.terminate()


def run(config: Any, policy: Any, requests: Sequence[Any], num_steps: int) -> list[Episode]:
    """Return the episodes in the order of the requests."""
    waiting = iter(requests)
    with create_env_runner(config, policy) as runner:
        done = list(runner.run(lambda: next(waiting, None), Sampling(num_steps=num_steps)))
    keys = [(request.group, request.rollout) for request in requests]
    return sorted(done, key=lambda e: keys.index((e.request.group, e.request.rollout)))


def compare(local: Sequence[Episode], asked: Sequence[Episode]) -> dict[str, Any]:
    """Return in what the two sides differ."""
    pairs = list(zip(local, asked, strict=True))
    differences = [
        float(np.abs(mine.chunk.actions - theirs.chunk.actions).max())
        for one, other in pairs
        for mine, theirs in zip(one.policy_steps, other.policy_steps, strict=False)
    ]
    return {
        "episodes": len(pairs),
        "success_local": sum(one.outcome == "success" for one, _ in pairs),
        "success_asked": sum(other.outcome == "success" for _, other in pairs),
        "same_outcome_and_length": sum(
            (one.outcome, one.num_steps) == (other.outcome, other.num_steps) for one, other in pairs
        ),
        "policy_steps": len(differences),
        "policy_steps_equal_in_every_bit": sum(difference == 0 for difference in differences),
        "largest_action_difference": max(differences),
    }


def main() -> int:
    """Run both sides; 1 if an episode ended otherwise."""
    parser = argparse.ArgumentParser(description="A served policy against a local one")
    parser.add_argument("--policy", default="builtin")
    parser.add_argument("--suite", default="libero_goal")
    parser.add_argument("--tasks", default="7")
    add_output_arguments(parser)
    arguments = parser.parse_args()
    episodes = "4" if arguments.quick else "20"
    with tempfile.TemporaryDirectory() as folder:
        evaluation = eval_program.parse(
            ["--policy", arguments.policy, "--suite", arguments.suite, "--tasks", arguments.tasks]
            + ["--episodes", episodes, "--output_dir", folder]
        )
    config = to_config(evaluation, arguments.policy, is_other=False)
    policy = build_policy(config)
    requests = requests_of(evaluation, policy)
    num_steps = policy.card.denoise_steps
    local = run(config, policy, requests, num_steps)
    with serving(arguments.policy, policy.batch_size) as port:
        client = WebsocketClientPolicy("127.0.0.1", port)
        asked = run(config, AskingPolicy(policy, client), requests, num_steps)
    found = compare(local, asked)
    for name, value in found.items():
        print(f"{name:<34}{value}")
    write_json(arguments.json, found, is_quick=arguments.quick)
    return int(found["same_outcome_and_length"] < found["episodes"])


if __name__ == "__main__":
    sys.exit(main())
