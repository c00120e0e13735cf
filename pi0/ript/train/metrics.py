"""The metrics of a training step under the names they have in ``metrics.jsonl``."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.learner.stats import CriticStats, UpdateStats
from pi0.ript.train.progression import Progression, Stopwatch
from pi0.ript.train.rollouts import Rollouts


def step_metrics(
    rollouts: Rollouts, stats: UpdateStats | None, progress: Progression, watch: Stopwatch
) -> dict[str, float | str]:
    """Return the metrics of a step; ``progress`` counts it already."""
    return {
        **rollout_metrics(rollouts),
        "rollout/staleness_updates": rollouts.staleness,
        **update_metrics(stats),
        "train/num_episodes": progress.num_episodes,
        "train/num_env_steps": progress.num_env_steps,
        **{f"time/{stage}_s": seconds for stage, seconds in watch.seconds.items()},
        "time/rollout_s": rollouts.seconds,
        "speed/spare_episodes": rollouts.num_spare_episodes,
        **rollouts.cost.metrics(rollouts.seconds),
    }


def rollout_metrics(rollouts: Rollouts) -> dict[str, float | str]:
    """Return what the rollouts of a step came to."""
    episodes = max(1, rollouts.num_episodes)
    return {
        "rollout/success_rate": rollouts.success_rate,
        "rollout/groups_accepted": rollouts.num_accepted,
        "rollout/groups_tried": rollouts.num_tried,
        "rollout/groups_crashed": rollouts.num_crashed,
        "rollout/groups_all_success": rollouts.num_all_success,
        "rollout/groups_all_failure": rollouts.num_all_failure,
        "rollout/ended_by": rollouts.ended_by,
        "rollout/num_episodes": rollouts.num_episodes,
        "rollout/episode_length_steps": rollouts.num_steps / episodes,
        **rollouts.states,
        **task_metrics(rollouts.records),
    }


def task_metrics(records: Iterable[EpisodeRecord]) -> dict[str, float | str]:
    """Return what every task of a step came to, e.g. ``task/libero_goal/7/success_rate``, in [0, 1].

    Crashed episodes are neither success nor failure; a task without any other episode has no metrics.
    """
    outcomes: dict[str, list[bool]] = {}
    for record in records:
        if record.outcome != "crashed":
            name = f"task/{record.suite}/{record.task_id}"
            outcomes.setdefault(name, []).append(record.outcome == "success")
    metrics: dict[str, float | str] = {}
    for name in sorted(outcomes):
        metrics[f"{name}/success_rate"] = sum(outcomes[name]) / len(outcomes[name])
        metrics[f"{name}/num_episodes"] = len(outcomes[name])
    return metrics


def update_metrics(stats: UpdateStats | None) -> dict[str, float | str]:
    """Return the metrics that an update has; None had nothing to learn from and took no optimizer step."""
    if stats is None:
        return {"update/num_optimizer_steps": 0}
    update = {f"update/{name}": value for name, value in _fields(stats) if name != "critic"}
    update["update/has_stopped_early"] = float(stats.has_stopped_early)
    critic = {f"value/{name}": value for name, value in _fields(stats.critic)}
    return {name: value for name, value in (update | critic).items() if value is not None}


def _fields(stats: UpdateStats | CriticStats | None) -> list[tuple[str, Any]]:
    return (
        []
        if stats is None
        else [(field.name, getattr(stats, field.name)) for field in fields(stats)]
    )
