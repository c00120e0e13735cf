"""``ript eval``: a table, a record per episode, videos, and one-line refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from libero.libero import get_libero_path

from pi0.ript.report.action_log import read_rollouts
from pi0.ript.report.launches import read_launches
from pi0.ript.report.video import read_video
from pi0.ript.scripts.eval import parse
from tests.programs import Program, run_program

RIPT = "pi0.ript.scripts.cli:dispatch"
PROGRAM = "from pi0.ript.scripts.cli import main; main()"


def _ript(
    *arguments: str | Path, cwd: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments], env={**os.environ, **environment},
        capture_output=True, text=True, timeout=240, cwd=cwd, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["evaluate"], ["evaluate", "eval"]),
        (["eval", "--suite", "libero_gaol"], ["libero_gaol", "libero_goal"]),
        (["eval", "--suite", "libero_goal", "--tasks", "turn_on_stove"], ["turn_on_the_stove"]),
        (["eval", "--suite", "libero_goal", "--policy", "nowhere"], ["nowhere"]),
        (["eval", "--suite", "libero_goal", "--compare", "nowhere"], ["--compare", "nowhere"]),
        (["eval", "--suite", "libero_goal", "--compare", "."], ["model.safetensors", "not exist"]),
        (["eval", "--tasks", "7"], ["--suite", "ript eval --help"]),
        (["sft", "--demos", "nowhere", "--output_dir", "x"], ["nowhere", "ript demos"]),
    ],
)
def test_bad_input_is_one_line_and_exit_2(tmp_path: Path, arguments: list[str], named: list[str]):
    done = run_program(RIPT, arguments, cwd=tmp_path)

    _assert_refused(done, named)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("episodes", "0", ">= 1"),
        ("episodes", "many", "invalid int value"),
        ("held_out_states", "0", "in [1, 50]"),
        ("held_out_states", "60", "in [1, 50]"),
        ("max_episode_length", "-5", ">= 1"),
        ("max_episode_length", "0", ">= 1"),
        ("denoise_steps", "0", ">= 1"),
        ("num_parallel_envs", "0", ">= 1"),
        ("num_parallel_envs", "some", "must be a whole number or auto"),
        ("save_videos", "-1", ">= 0"),
    ],
)
def test_a_bad_number_is_refused_before_the_policy_is_opened(
    tmp_path: Path, flag: str, value: str, allowed: str
):
    arguments = ["eval", "--suite", "libero_goal", "--policy", "nowhere", f"--{flag}", value]
    done = run_program(RIPT, arguments, cwd=tmp_path)

    _assert_refused(done, [f"--{flag}", value, allowed])


def test_every_state_of_a_task_may_be_held_out():
    assert parse(["--suite", "libero_goal", "--held_out_states", "50"]).held_out_states == 50


def test_the_command_itself_refuses_bad_input_in_one_line(tmp_path: Path):
    done = _ript("eval", "--suite", "libero_gaol", cwd=tmp_path)

    _assert_refused(done, ["libero_gaol", "libero_goal"])
    assert not list(tmp_path.iterdir())


def _assert_refused(done: subprocess.CompletedProcess[str], named: list[str]) -> None:
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == 2, done.stderr
    assert len(errors) == 1
    assert "Traceback" not in done.stderr
    for word in named:
        assert word in errors[0]


COMMAND = (
    "eval", "--suite", "libero_goal_lan,libero_goal", "--tasks", "7", "--episodes", "4",
    "--max_episode_length", "40",
)  # fmt: skip


def _episodes(folder: Path) -> list[dict[str, object]]:
    episodes = json.loads((folder / "results.json").read_text())["episodes"]
    return [{name: e[name] for name in e if name != "seconds"} for e in episodes]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed evaluation with one slot, compared with the embedded policy itself."""
    folder = tmp_path_factory.mktemp("eval")
    done = run_program(
        RIPT,
        [*COMMAND, "--num_parallel_envs", "1", "--save_videos", "1", "--video_rate", "steps",
         "--also", "lerobot,vla-eval", "--save_rollouts", "all", "--output_dir", folder / "one"],
        folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("libero_goal/7 turn on the stove")
    assert "videos: up to 80 images of control steps (2 episodes)" in " ".join(done.stderr.split())
    return folder / "one"


@pytest.mark.libero
@pytest.mark.slow
def test_an_evaluation_leaves_tables_records_a_page_and_videos(evaluated: Path):
    results = json.loads((evaluated / "results.json").read_text())

    # The held-out states are 30 to 49; episodes walk through them in order.
    assert [episode["state_index"] for episode in results["episodes"]] == [30, 31, 32, 33] * 2
    assert results["success"]["libero_goal_lan/7 switch on the stove"]["n"] == 4
    assert results["settings"]["policy_card"]["cameras"] == ["agentview"]
    assert results["settings"]["max_steps"] == {"libero_goal": 40, "libero_goal_lan": 40}
    assert {path.name for path in evaluated.iterdir()} == {
        "episodes.jsonl", "results.json", "results.csv", "results.md", "results.html", "videos",
        "launches.jsonl", "rollouts.jsonl", "eval_info.json", "libero_goal_aggregate.json",
        "libero_goal_lan_aggregate.json",
    }  # fmt: skip
    [launch], damage = read_launches(evaluated)
    assert (launch.step, damage) == (0, [])
    assert {"mujoco", "GL renderer"} <= launch.versions.keys()
    videos = list((evaluated / "videos").iterdir())
    assert [video.suffix for video in videos] == [".mp4", ".mp4"]
    recorded = [episode for episode in results["episodes"] if episode["state_index"] == 30]
    assert sorted(len(read_video(video)) for video in videos) == sorted(
        1 + episode["num_steps"] for episode in recorded
    )


@pytest.mark.libero
@pytest.mark.slow
def test_an_evaluation_keeps_the_actions_of_its_episodes(evaluated: Path):
    stored = {rollout.seed: len(rollout.actions) for rollout in read_rollouts(evaluated)}
    assert stored == {episode["seed"]: episode["num_steps"] for episode in _episodes(evaluated)}


@pytest.mark.libero
@pytest.mark.slow
def test_killed_at_half_and_repeated_with_other_slots_gives_the_same_episodes(
    evaluated: Path, tmp_path: Path
):
    command = [*COMMAND, "--num_parallel_envs", "3", "--output_dir", "out"]
    process = Program(RIPT, command, cwd=tmp_path)
    log = tmp_path / "out/episodes.jsonl"
    deadline = time.monotonic() + 120
    while process.returncode is None and time.monotonic() < deadline:
        # One line of settings, then one per episode.
        if log.is_file() and len(log.read_bytes().splitlines()) >= 4:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.01)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(log.read_bytes().splitlines()) < 9, "killed too late to show anything"

    refused = run_program(RIPT, [*command, "--seed", "1"], cwd=tmp_path)
    done = run_program(RIPT, [*command, "--compare", evaluated], tmp_path)

    assert refused.returncode == 2
    assert "seed is 42, not 1" in refused.stderr
    assert done.returncode == 0, done.stderr
    assert "of 8 episodes are done" in done.stderr
    assert _episodes(tmp_path / "out") == _episodes(evaluated)
    launches, _ = read_launches(tmp_path / "out")
    assert launches[0].step == 0 < launches[1].step
    # The same policy on the same episodes: no pair disagrees, so no change.
    assert "+0.0 points" in done.stdout
    assert "gained 0, lost 0, p = 1" in done.stdout


@pytest.mark.libero
@pytest.mark.slow
def test_a_crashed_episode_is_exit_1_counted_and_in_no_rate(tmp_path: Path):
    # LIBERO reads its task files from where this file points; the file of task 6 is damaged.
    shutil.copytree(get_libero_path("bddl_files"), tmp_path / "bddl")
    bddl_file = tmp_path / "bddl/libero_goal/put_the_cream_cheese_in_the_bowl.bddl"
    bddl_file.write_text(bddl_file.read_text().replace("cream_cheese", "no_such_thing"))
    (tmp_path / "config.yaml").write_text(f"bddl_files: {tmp_path / 'bddl'}\n")

    done = _ript(
        "eval", "--suite", "libero_goal", "--tasks", "6", "7", "--episodes", "1",
        "--max_episode_length", "20", "--num_parallel_envs", "1", "--output_dir", "out",
        cwd=tmp_path, LIBERO_CONFIG_PATH=str(tmp_path),
    )  # fmt: skip

    assert done.returncode == 1, done.stderr
    assert "1 of 2 episodes crashed" in done.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["success"]["libero_goal/6 put the cream cheese in the bowl"] is None
    assert results["success"]["libero_goal"]["n"] == 1
    assert results["num_crashed"] == 1
    crashed, done_episode = results["episodes"]
    assert "no_such_thing" in crashed["error"]
    assert done_episode["outcome"] == "failure"
