"""Results as LeRobot and vla-eval write them, read by what reads theirs."""

import json

import pytest

from pi0.ript.report.evaluation_report import EvaluationReport
from pi0.ript.report.other_harnesses import write_for

SETTINGS = {"policy": "runs/a", "seed": 42, "versions": {"pi0-ript": "0.1.0"}}


def episode(suite, task_id, state, outcome, **rest):
    return {
        "suite": suite, "task_id": task_id, "task": f"task {task_id}", "state_index": state,
        "fixture_seed": 0, "seed": 5, "outcome": outcome, "num_steps": 40, "num_decisions": 4,
        "error": "", "seconds": 2.0, **rest,
    }  # fmt: skip


@pytest.fixture
def report():
    """libero_goal: 2 of 3, one of them crashed; libero_object: 1 of 2."""
    episodes = [
        episode("libero_goal", 7, 30, "success"),
        episode("libero_goal", 7, 31, "crashed", error="worker 3 ended"),
        episode("libero_goal", 8, 30, "success"),
        episode("libero_object", 0, 30, "success"),
        episode("libero_object", 0, 31, "failure"),
    ]
    return EvaluationReport(settings=SETTINGS, rows=[], episodes=episodes, comparison=None)


def test_lerobots_file_leaves_crashed_episodes_out(report, tmp_path):
    (path,) = write_for("lerobot", tmp_path, report)
    assert path.name == "eval_info.json"
    info = json.loads(path.read_text())
    assert [(task["task_group"], task["task_id"]) for task in info["per_task"]] == [
        ("libero_goal", 7), ("libero_goal", 8), ("libero_object", 0),
    ]  # fmt: skip
    assert info["per_task"][2]["metrics"] == {
        "sum_rewards": [1.0, 0.0], "max_rewards": [1.0, 0.0], "successes": [True, False],
        "video_paths": [],
    }  # fmt: skip
    assert info["per_group"]["libero_goal"]["pc_success"] == 100.0
    assert info["per_group"]["libero_object"]["avg_sum_reward"] == 0.5
    # 3 of 4 complete ones; 4 times 2 s
    overall = info["overall"]
    assert (overall["pc_success"], overall["n_episodes"]) == (75.0, 4)
    assert (overall["eval_s"], overall["eval_ep_s"]) == (8.0, 2.0)


def test_vla_evals_files_count_a_crash_as_a_failure_with_its_reason(report, tmp_path):
    paths = write_for("vla-eval", tmp_path, report)
    assert [path.name for path in paths] == [
        "libero_goal_aggregate.json",
        "libero_object_aggregate.json",
    ]
    goal = json.loads(paths[0].read_text())
    assert goal["mean_success"] == 0.6667  # 2 of 3, four digits as there
    assert (goal["num_episodes_total"], goal["num_errors"], goal["seed"]) == (3, 1, 42)
    crashed = goal["tasks"][0]["episodes"][1]
    assert crashed["metrics"] == {"success": False}
    assert (crashed["episode_id"], crashed["failure_reason"], crashed["failure_detail"]) == (
        31, "env_step", "worker 3 ended",
    )  # fmt: skip


def test_vla_evals_own_collector_makes_the_same_numbers_of_the_episodes(report, tmp_path):
    collector = pytest.importorskip("vla_eval.results.collector", reason="needs vla-eval")
    for path in write_for("vla-eval", tmp_path, report):
        ours = json.loads(path.read_text())
        theirs = collector.ResultCollector(ours["benchmark"], metric_keys=ours["metric_keys"])
        for task in ours["tasks"]:
            for one in task["episodes"]:
                theirs.record(task["task"], one)
        expected = theirs.get_benchmark_result(ours["config"])
        varying = {"harness_version", "created_at"}
        assert {key: ours[key] for key in expected if key not in varying} == {
            key: value for key, value in expected.items() if key not in varying
        }


def test_an_evaluation_without_a_complete_episode_has_no_rate(tmp_path):
    episodes = [episode("libero_goal", 7, 30, "crashed", error="x")]
    report = EvaluationReport(settings=SETTINGS, rows=[], episodes=episodes, comparison=None)
    (path,) = write_for("lerobot", tmp_path, report)
    info = json.loads(path.read_text())
    assert (info["overall"]["pc_success"], info["overall"]["n_episodes"]) == (None, 0)
