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


@pytest.mark.libero
@pytest.mark.slow
def test_two_ranks_share_practice_and_evaluation_and_leave_one_run_directory(tmp_path: Path):
    flags = [
        f"--output_dir={tmp_path}",
        "--training.num_train_steps=1",
        "--evaluation.rollouts_per_task=2",
        "--task.max_episode_length=20",
        "--task.num_parallel_envs=1",
    ]
    command = [*TORCHRUN, *TRAIN, CONFIG, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr
    (run_dir,) = tmp_path.iterdir()
    (step,) = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert step["rollout/groups_tried"] == 2
    assert step["rollout/num_episodes"] == 8
    records = json.loads((run_dir / "evaluations/step_1.json").read_text())["episodes"]
    assert len(records) == 2
