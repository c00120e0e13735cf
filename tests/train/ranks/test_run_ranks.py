"""A whole run on real LIBERO with two ranks, started as a user starts it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
TRAIN = [ROOT / "pi0/ript/scripts/train_ript_pi0.py", "--config_path"]
CONFIG = ROOT / "pi0/ript/config/debug_train_ript_vla.yaml"


def _torchrun(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [*TORCHRUN, *TRAIN, CONFIG, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.libero
@pytest.mark.slow
def test_two_ranks_share_practice_and_evaluation_and_leave_one_run_directory(tmp_path: Path):
    done = _torchrun(
        f"--output_dir={tmp_path}",
        "--training.num_train_steps=1",
        "--evaluation.rollouts_per_task=2",
        "--task.max_episode_length=20",
        "--task.num_parallel_envs=1",
    )

    assert done.returncode == 0, done.stderr
    (run_dir,) = tmp_path.iterdir()
    (step,) = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert step["rollout/groups_tried"] == 2
    assert step["rollout/num_episodes"] == 8
    records = json.loads((run_dir / "evaluations/step_1.json").read_text())["episodes"]
    assert len(records) == 2


@pytest.mark.slow
def test_groups_that_cannot_be_shared_are_refused_on_one_line(tmp_path: Path):
    done = _torchrun(f"--output_dir={tmp_path}", "--algo.demo_batch_size=3")

    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode != 0
    assert len(errors) == 1, done.stderr
    assert "2 ranks cannot share algo.demo_batch_size 3 evenly" in errors[0]
    assert not list(tmp_path.iterdir())
