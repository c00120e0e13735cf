"""Whole runs of the training script: the switch changes the runner and nothing else.

python test_ript_vla_e2e.py
"""

import json
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest

from tests.programs import run_program
from tests.verification import run_checks

pytestmark = [pytest.mark.libero, pytest.mark.slow]

ROOT = Path(__file__).parent
CONFIGS = ROOT / "pi0/ript/config"
MACHINE_DEPENDENT = ("time/", "speed/", "memory/")
SHORT = ["--task.max_episode_length=70", "--evaluation.rollouts_per_task=2",
         "--algo.demo_batch_size=1", "--training.num_train_steps=1"]  # fmt: skip


@cache
def run(config, variable="", *flags):
    """Train and return (log, metrics, evaluations, checkpoint names, folders of videos) of the run."""
    with tempfile.TemporaryDirectory() as folder:
        done = run_program(
            "pi0.ript.scripts.train_ript_pi0:main",
            ["--config_path", CONFIGS / config, "--output_dir", folder, *SHORT, *flags],
            ROOT,
            environment={"USE_RIPT_VLA_RUNNER": variable},
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        (run_dir,) = Path(folder).iterdir()
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
        evaluations = sorted((run_dir / "evaluations").glob("*.json"))
        return (
            done.stderr,
            [machine_independent(json.loads(line)) for line in lines],
            [path.read_text() for path in evaluations],
            sorted(path.name for path in (run_dir / "checkpoints").iterdir()),
            sorted(path.parent.name for path in (run_dir / "videos").rglob("*.mp4")),
        )


def machine_independent(metrics):
    return {key: value for key, value in metrics.items() if not key.startswith(MACHINE_DEPENDENT)}


def test_serial_configuration_trains():
    """debug_train_pi0.yaml trains with LIBEROEnvRunner and leaves metrics and a checkpoint."""
    log, metrics, evaluations, checkpoints, _ = run("debug_train_pi0.yaml")
    assert "runner: LIBEROEnvRunner, chosen by features.use_ript_vla_runner" in log
    assert len(metrics) == 1
    assert len(evaluations) == 2
    assert {"1", "last"} <= set(checkpoints)


def test_parallel_configuration_trains():
    """debug_train_ript_vla.yaml trains with PI0LiberoRunner."""
    log, metrics, *_ = run("debug_train_ript_vla.yaml")
    assert "runner: PI0LiberoRunner, chosen by features.use_ript_vla_runner" in log
    assert len(metrics) == 1


def test_the_configuration_line_changes_nothing_but_the_runner():
    """Serial and parallel runs have the same metrics and held-out episodes, wall-clock aside."""
    assert run("debug_train_pi0.yaml")[1:] == run("debug_train_ript_vla.yaml")[1:]


def test_the_variable_changes_nothing_but_the_runner():
    """USE_RIPT_VLA_RUNNER switches both debug configurations, with the same metrics."""
    there = run("debug_train_pi0.yaml", "true")
    back = run("debug_train_ript_vla.yaml", "false")
    assert "runner: PI0LiberoRunner, chosen by USE_RIPT_VLA_RUNNER" in there[0]
    assert "runner: LIBEROEnvRunner, chosen by USE_RIPT_VLA_RUNNER" in back[0]
    assert there[1:] == run("debug_train_pi0.yaml")[1:]
    assert back[1:] == run("debug_train_ript_vla.yaml")[1:]


def test_an_earlier_configuration_trains():
    """A configuration of the earlier system, K = 1, trains with the embedded policy and records videos."""
    name = "../../../tests/config/earlier/debug_train_pi0.yaml"
    log, metrics, _, _, videos = run(
        name, "", "--policy_path=builtin", "--task.benchmark_name=libero_goal",
        "--task.task_name=turn_on_the_stove", "--algo.demo_batch_size=2",
        "--override=features.save_video=true",
    )  # fmt: skip
    assert "algo.rloo_batch_size is 1" in log
    assert metrics[0]["rollout/num_episodes"] == 2
    # the first initial state of the training step, K = 1, and some held-out episodes before and after
    assert [name for name in videos if name.startswith("practice")] == ["practice_1"]
    assert {"step_0", "step_1"} <= set(videos)


if __name__ == "__main__":
    sys.exit(run_checks(globals()))
