"""An evaluation in the files of other harnesses, so that their tables, plots and leaderboards read it.

LeRobot (``lerobot-eval``): ``eval_info.json``. vla-eval: ``<suite>_aggregate.json``, one for each suite.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pi0.files import write_atomically
from pi0.ript.report.evaluation_report import EvaluationReport

Harness = Literal["lerobot", "vla-eval"]
Episode = Mapping[str, Any]

DIGITS = 4  # vla-eval's means are rounded to as many


def write_for(harness: Harness, folder: Path, report: EvaluationReport) -> list[Path]:
    """Write an evaluation as another harness does; return the files, each whole or not at all."""
    written: list[Path] = []
    for name, content in FILES[harness](report).items():
        write_atomically(folder / name, json.dumps(content, indent=2, allow_nan=False) + "\n")
        written.append(folder / name)
    return written


def lerobot_files(report: EvaluationReport) -> dict[str, Any]:
    """Return LeRobot's file.

    LIBERO's reward is 1 in the step that solves the task, so sum and maximum are the success. A crashed
    episode is in no list. ``eval_s`` is the seconds of all episodes, which ran beside each other.
    """
    every: Sequence[Episode] = report.episodes
    complete = [episode for episode in every if episode["outcome"] != "crashed"]
    per_task = [
        {"task_group": suite, "task_id": task_id, "metrics": _lerobot_metrics(some)}
        for (suite, task_id), some in _grouped(complete, "suite", "task_id").items()
    ]
    per_group = {
        suite: _lerobot_means(some) for (suite,), some in _grouped(complete, "suite").items()
    }
    spent = sum(episode["seconds"] for episode in complete)
    times = {"eval_s": spent, "eval_ep_s": spent / max(1, len(complete))}
    content = {
        "per_task": per_task,
        "per_group": per_group,
        "overall": _lerobot_means(complete) | times,
    }
    return {"eval_info.json": content}


def vla_eval_files(report: EvaluationReport) -> dict[str, Any]:
    """Return vla-eval's files.

    There an episode's number is its initial state's, and one that an error ended counts as a failure, with
    its reason beside it.
    """
    return {
        f"{suite}_aggregate.json": _aggregate(suite, some, report.settings)
        for (suite,), some in _grouped(report.episodes, "suite").items()
    }


FILES: Mapping[Harness, Callable[[EvaluationReport], dict[str, Any]]] = {
    "lerobot": lerobot_files,
    "vla-eval": vla_eval_files,
}


def _grouped(episodes: Sequence[Episode], *keys: str) -> dict[tuple[Any, ...], list[Episode]]:
    groups: dict[tuple[Any, ...], list[Episode]] = {}
    for episode in episodes:
        groups.setdefault(tuple(episode[key] for key in keys), []).append(episode)
    return groups


def _is_success(episode: Episode) -> bool:
    return episode["outcome"] == "success"


def _lerobot_metrics(episodes: Sequence[Episode]) -> dict[str, Any]:
    rewards = [float(_is_success(episode)) for episode in episodes]
    return {
        "sum_rewards": rewards,
        "max_rewards": rewards,
        "successes": [_is_success(episode) for episode in episodes],
        "video_paths": [],
    }


def _lerobot_means(episodes: Sequence[Episode]) -> dict[str, Any]:
    mean = _mean([float(_is_success(episode)) for episode in episodes])
    return {
        "avg_sum_reward": mean,
        "avg_max_reward": mean,
        "pc_success": None if mean is None else 100 * mean,
        "n_episodes": len(episodes),
        "video_paths": [],
    }


def _aggregate(
    suite: str, episodes: Sequence[Episode], settings: Mapping[str, Any]
) -> dict[str, Any]:
    tasks = [
        _vla_eval_task(str(name), some) for (name,), some in _grouped(episodes, "task").items()
    ]
    return {
        "benchmark": suite,
        "mode": "sync",
        "harness_version": f"pi0-ript {settings['versions']['pi0-ript']}",
        "created_at": datetime.now(UTC).isoformat(),
        "tasks": sorted(tasks, key=lambda task: task["task"]),
        "config": {
            "params": {"suite": suite, "seed": settings["seed"]},
            "settings": dict(settings),
        },
        "seed": settings["seed"],
        "metric_keys": {"success": "mean"},
        "mean_success": _rounded_success(episodes),
        "num_episodes_total": len(episodes),
        "num_errors": sum(task.get("num_errors", 0) for task in tasks),
    }


def _vla_eval_task(name: str, episodes: Sequence[Episode]) -> dict[str, Any]:
    num_errors = sum(episode["outcome"] == "crashed" for episode in episodes)
    return {
        "task": name,
        "episodes": [_vla_eval_episode(episode) for episode in episodes],
        "num_episodes": len(episodes),
        "avg_steps": sum(episode["num_steps"] for episode in episodes) / len(episodes),
        "mean_success": _rounded_success(episodes),
    } | ({"num_errors": num_errors} if num_errors else {})


def _vla_eval_episode(episode: Episode) -> dict[str, Any]:
    values = {
        "episode_id": episode["state_index"],
        "metrics": {"success": _is_success(episode)},
        "steps": episode["num_steps"],
        "elapsed_sec": round(episode["seconds"], 3),
        "task_idx": episode["task_id"],
        "seed": episode["seed"],
        "fixture_seed": episode["fixture_seed"],
    }
    if episode["outcome"] == "crashed":
        values |= {"failure_reason": "env_step", "failure_detail": episode["error"]}
    return values


def _rounded_success(episodes: Sequence[Episode]) -> float:
    return round(sum(map(_is_success, episodes)) / len(episodes), DIGITS)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
