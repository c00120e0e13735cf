"""The real training program with a toy in place of MuJoCo: ``python -m tests.train.toy_run ARGUMENTS``.

Tasks, initial states, instructions, policy, learning, files and signals are the real ones; the toy takes
no time to start, so that whole runs can be broken in many places. TOY_WAIT_S slows its simulators down,
TOY_SCENES_MB gives them a process that takes as much memory for scenes as long as it may.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pi0.checkpoint import save_policy
from pi0.records import Observation
from pi0.ript.env.pool.ledger import SlotLedger
from pi0.ript.env.resources import Sizing
from pi0.ript.env.runner import EnvRunner
from pi0.ript.interfaces import Reply
from pi0.ript.scripts import train_ript_pi0
from pi0.ript.scripts.exits import run_main
from tests.policy_parts import SIZE, small_policy

ROOT = Path(__file__).parents[2]
NUM_SLOTS = 4
REACHED = 1.2
# Holds memory until it is told to let go of it, and ends when nobody can tell it anything any more.
SCENES = """
import sys
scenes = b"x" * (int(sys.argv[1]) * 10**6)
print("ready", flush=True)
for line in sys.stdin:
    scenes = b""
"""


def toy_policy(folder):
    """Save a small pi0 and return its folder."""
    save_policy(small_policy(), folder)
    return folder


def toy_arguments(policy, output_dir, **overrides):
    """Return a command line for a run of seconds; ``overrides`` have __ for dots."""
    settings = {
        "policy_path": policy,
        "output_dir": output_dir,
        "task__task_name": "turn_on_the_stove",
        "task__max_episode_length": 12,
        "algo__rloo_batch_size": 4,
        "algo__demo_batch_size": 2,
        "algo__num_epochs": 1,
        "algo__num_minibatches": 2,
        "algo__lr": 1e-3,
        "training__num_train_steps": 3,
        "training__save_freq": 2,
        "evaluation__rollouts_per_task": 2,
        "evaluation__save_videos": 0,
        "logging__tensorboard": "false",
    }
    config = ROOT / "pi0/ript/config/debug_train_pi0.yaml"
    flags = [f"--{key.replace('__', '.')}={value}" for key, value in (settings | overrides).items()]
    return [f"--config_path={config}", *flags]


class ToyPool(SlotLedger):
    """An arm that has to move far enough along its first axis; how far depends on the initial state."""

    def __init__(self):
        super().__init__(NUM_SLOTS, num_workers=1, max_scenes=1)
        self._position = {}
        self._replies = []
        self._wait_s = float(os.environ.get("TOY_WAIT_S", "0"))
        megabytes = os.environ.get("TOY_SCENES_MB")
        self._scenes = megabytes and subprocess.Popen(
            [sys.executable, "-c", SCENES, megabytes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self):
        if self._scenes:
            self._scenes.stdout.readline()

    @property
    def local_pids(self):
        return (self._scenes.pid,) if self._scenes else ()

    @property
    def driver(self):
        return {"GL renderer": "none, a toy"}

    def drop_scenes(self):
        if self._scenes:
            self._scenes.stdin.write("drop\n")
            self._scenes.stdin.flush()

    def close(self):
        super().close()
        if self._scenes:
            self._scenes.communicate()

    def restore(self, slot, initial_state):
        self._begin_restore(slot, initial_state)
        self._position[slot] = 0.1 * np.cos(initial_state.state[:7])
        self._reply(slot, 0)

    def execute(self, slot, actions, *, observe=True, video=False):
        self._begin(slot)
        self._position[slot] = self._position[slot] + actions.sum(axis=0)
        self._reply(slot, len(actions))

    def wait(self):
        time.sleep(self._wait_s)
        replies, self._replies = self._replies, []
        self._busy.clear()
        return replies

    def release(self, slot):
        self._ledger(slot).release(slot)

    def _reply(self, slot, num_steps):
        position = self._position[slot]
        shade = int(128 + 100 * np.tanh(position[0]))
        images = np.full((2, SIZE, SIZE, 3), shade, np.uint8)
        proprio = np.concatenate([position[:3], [0.0, 0.0, 0.0, 1.0], position[3:5]])
        self._replies.append(
            Reply(
                slot=slot,
                observation=Observation(images=images, proprio=proprio),
                is_success=num_steps > 0 and bool(position[0] > REACHED),
                num_steps=num_steps,
            )
        )


class ToyRunner(EnvRunner):
    """A runner over toy slots."""

    def _size(self, num_parallel_envs):
        return Sizing(num_slots=NUM_SLOTS, num_workers=1, scenes_per_worker=1, reason="toy")

    def _make_pool(self):
        return ToyPool()


def create_toy_runner(config, policy, *_ranks):
    return ToyRunner(policy, config=config)


def main(argv):
    train_ript_pi0.create_env_runner = create_toy_runner
    return train_ript_pi0.main(argv)


if __name__ == "__main__":
    run_main(main)
