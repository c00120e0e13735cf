"""The figures of a step under the names they have in ``metrics.jsonl``."""

from collections.abc import Iterable

from pi0.ript.train.collect import Collection
from pi0.ript.train.collector import Practised
from pi0.ript.train.progression import Progression, Stopwatch
from pi0.ript.types import EpisodeRecord, UpdateStats


def step_metrics(
    practised: Practised, stats: UpdateStats | None, after: Progression, watch: Stopwatch
) -> dict[str, float | str]:
    """Return the figures of a step; ``after`` counts it already."""
    return {
        **collection_metrics(practised.collection),
        "rollout/staleness_updates": practised.staleness,
        **update_metrics(stats),
        "train/num_episodes": after.num_episodes,
        "train/num_env_steps": after.num_env_steps,
        **{f"time/{stage}_s": seconds for stage, seconds in watch.seconds.items()},
        "time/rollout_s": practised.seconds,
        **practised.stats.metrics(practised.seconds),
    }


def collection_metrics(collection: Collection) -> dict[str, float | str]:
    """Return the figures of a collection."""
    episodes = max(1, collection.num_episodes)
    return {
        "rollout/success_rate": collection.success_rate,
        "rollout/groups_accepted": collection.num_accepted,
        "rollout/groups_tried": collection.num_tried,
        "rollout/groups_crashed": collection.num_crashed,
        "rollout/groups_all_success": collection.num_all_success,
        "rollout/groups_all_failure": collection.num_all_failure,
        "rollout/ended_by": collection.ended_by,
        "rollout/num_episodes": collection.num_episodes,
        "rollout/episode_length_steps": collection.num_steps / episodes,
        **task_metrics(collection.records),
    }


def task_metrics(records: Iterable[EpisodeRecord]) -> dict[str, float | str]:
    """Return what every practised task came to, e.g. ``task/libero_goal/7/success_rate``, in [0, 1].

    Crashed episodes are neither success nor failure; a task without any other episode has no figures.
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
    """Return the figures that an update has; None had nothing to learn from and took no optimizer step."""
    if stats is None:
        return {"update/num_optimizer_steps": 0}
    figures = {
        "update/loss": stats.loss,
        "update/kl": stats.kl,
        "update/clip_fraction": stats.clip_fraction,
        "update/grad_norm": stats.grad_norm,
        "update/log_ratio_max": stats.log_ratio_max,
        "update/num_optimizer_steps": stats.num_optimizer_steps,
        "update/has_stopped_early": float(stats.has_stopped_early),
        "update/z_mean": stats.z_mean,
        "update/z_variance": stats.z_variance,
        "update/off_mask_error": stats.off_mask_error,
        "update/rollout_log_ratio_mean": stats.rollout_log_ratio_mean,
        "update/rollout_log_ratio_std": stats.rollout_log_ratio_std,
        "update/stale_kl": stats.stale_kl,
    }
    return {name: figure for name, figure in figures.items() if figure is not None}
