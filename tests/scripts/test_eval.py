"""``ript eval``: a table, a record per episode, films, and one-line refusals."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = "from pi0.ript.scripts.cli import main; main()"


def _ript(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True, text=True, timeout=240, cwd=cwd, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate"], ["evaluate", "eval"]),
        (["eval", "--suite", "libero_gaol"], ["libero_gaol", "libero_goal"]),
        (["eval", "--suite", "libero_goal", "--tasks", "turn_on_stove"], ["turn_on_the_stove"]),
        (["eval", "--suite", "libero_goal", "--tasks", "7", "--episodes", "0"], ["--episodes"]),
        (["eval", "--suite", "libero_goal", "--policy", "nowhere"], ["nowhere"]),
        (["sft", "--demos", "nowhere", "--output_dir", "x"], ["nowhere", "ript demos"]),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, arguments: list[str], named: list[str]):
    done = _ript(*arguments, cwd=tmp_path)

    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    for word in named:
        assert word in errors[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.libero
@pytest.mark.slow
def test_an_evaluation_leaves_a_table_records_and_films(tmp_path: Path):
    done = _ript(
        "eval", "--suite", "libero_goal", "--tasks", "7", "--episodes", "3", "--num_parallel_envs",
        "2", "--max_episode_length", "30", "--save_videos", "1", "--output_dir", tmp_path / "out",
        cwd=tmp_path,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("libero_goal/7 turn on the stove")
    results = json.loads((tmp_path / "out/results.json").read_text())
    # The held-out states are 30 to 49; episodes walk through them in order.
    assert [episode["state_index"] for episode in results["episodes"]] == [30, 31, 32]
    assert results["success"]["libero_goal/7 turn on the stove"]["n"] == 3
    assert results["policy_card"]["layout"] == "native"
    assert results["policy_card"]["cameras"] == ["agentview"]
    (film,) = (tmp_path / "out/videos").iterdir()
    assert film.suffix == ".mp4"
    assert film.stat().st_size > 1000
