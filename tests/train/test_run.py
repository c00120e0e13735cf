"""Whole runs on real LIBERO: killed and resumed, and the same episodes on every runner."""

import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pi0.checkpoint import load_policy
from pi0.model.network import Pi0Network
from pi0.records import Sampling
from pi0.ript.config.load import read_config
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pi0_libero_runner import LIBEROEnvRunner
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.types import Episode, EpisodeRequest
from tests.programs import run_program
from tests.train.toy_training import repeatable_metrics

pytestmark = [pytest.mark.libero, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "pi0/ript/scripts/train_ript_pi0.py"
CONFIG = ROOT / "pi0/ript/config/debug_train_ript_vla.yaml"
OVERRIDES = [
    "--training.num_train_steps=2",
    "--evaluation.rollouts_per_task=2",
    "--task.max_episode_length=80",
]


def _arguments(output_dir: Path) -> list[str | Path]:
    return ["--config_path", CONFIG, "--output_dir", output_dir, *OVERRIDES]


def _train(*arguments: str | Path) -> None:
    done = run_program("pi0.ript.scripts.train_ript_pi0:main", arguments, ROOT, timeout=300)
    assert done.returncode == 0, done.stderr


def _run_dir(output_dir: Path) -> Path:
    (run_dir,) = output_dir.iterdir()
    return run_dir


def _wait_for_step(output_dir: Path, step: int) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if list(output_dir.glob(f"*/checkpoints/{step}")):
            return
        time.sleep(0.1)
    raise AssertionError(f"step {step} was not reached in time")


def test_killed_in_the_middle_and_resumed_ends_with_the_same_bits(tmp_path: Path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    _train(*_arguments(undisturbed))

    command = [sys.executable, SCRIPT, *_arguments(killed)]
    process = subprocess.Popen(command, start_new_session=True)
    _wait_for_step(killed, 1)
    time.sleep(1.0)  # into the practice of step 2
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (_run_dir(killed) / "checkpoints/2").exists(), "killed too late to show anything"
    _train("--resume", _run_dir(killed))

    last = repeatable_metrics(_run_dir(undisturbed))[-1]
    assert last["update/num_optimizer_steps"] > 0, (
        "nothing was learned after the kill, so nothing was shown"
    )
    assert repeatable_metrics(_run_dir(killed)) == repeatable_metrics(_run_dir(undisturbed))
    for name in (
        "checkpoints/2/pretrained_model/model.safetensors",
        "checkpoints/2/training_state/optimizer.safetensors",
        "evaluations/step_2.json",
        "episodes.jsonl",
    ):
        left, right = ((_run_dir(folder) / name).read_bytes() for folder in (killed, undisturbed))
        assert left == right, name


def _episodes(runner: LIBEROEnvRunner | PI0LiberoRunner) -> list[Episode]:
    requests = iter(
        EpisodeRequest(
            initial_state=make_initial_state("libero_goal", 7, index, 0),
            seed=1000 + rollout,
            max_steps=70,
            group=index,
            rollout=rollout,
        )
        for index in range(2)
        for rollout in range(3)
    )
    with runner:
        done = list(
            runner.run(lambda: next(requests, None), Sampling(num_steps=4, noise_scale=0.5))
        )
    return sorted(done, key=lambda e: (e.request.group, e.request.rollout))


@pytest.fixture(scope="module")
def serial_episodes() -> list[Episode]:
    policy = load_policy("builtin")
    return _episodes(LIBEROEnvRunner(policy, "libero_goal", config=read_config(CONFIG)))


def _num_networks_loaded() -> int:
    gc.collect()
    # Not isinstance: it would ask lazy modules for attributes, and they warn.
    return sum(type(thing) is Pi0Network for thing in gc.get_objects())


@pytest.fixture(scope="module")
def parallel() -> tuple[PI0LiberoRunner, list[Episode]]:
    """The runner of five slots and its episodes; ``tests/env/test_runners.py`` has other numbers."""
    config = read_config(CONFIG)
    config = replace(config, task=replace(config.task, num_parallel_envs=5))
    policy = load_policy("builtin")
    runner = PI0LiberoRunner(policy, "libero_goal", num_parallel_envs=5, config=config)
    num_networks = _num_networks_loaded()
    episodes = _episodes(runner)
    assert _num_networks_loaded() == num_networks, "another copy of the policy was loaded"
    return runner, episodes


def test_serial_and_parallel_runners_give_the_same_episodes(
    serial_episodes: list[Episode], parallel: tuple[PI0LiberoRunner, list[Episode]]
):
    _, episodes = parallel

    assert [e.outcome for e in episodes] == [e.outcome for e in serial_episodes]
    assert [len(e.policy_steps) for e in episodes] == [len(e.policy_steps) for e in serial_episodes]
    for ours, theirs in zip(episodes, serial_episodes, strict=True):
        for left, right in zip(ours.policy_steps, theirs.policy_steps, strict=True):
            np.testing.assert_allclose(left.chunk.actions, right.chunk.actions, rtol=0, atol=1e-5)
            np.testing.assert_array_equal(left.observation.images, right.observation.images)


def test_many_slots_fill_the_batches_of_one_policy(
    parallel: tuple[PI0LiberoRunner, list[Episode]],
):
    runner, episodes = parallel

    assert len(episodes) == 6
    assert runner.stats.policy_samples / runner.stats.policy_calls > 1
    assert runner.stats.policy_samples == sum(len(e.policy_steps) for e in episodes)
