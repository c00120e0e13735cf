"""Small records of evaluated episodes for the tests of this folder."""

from pi0.ript.episode_record import EpisodeRecord


def make_record(task_id=7, state_index=30, outcome="success", **rest):
    values = {
        "suite": "libero_goal", "task_id": task_id, "task": f"task {task_id}",
        "state_index": state_index, "seed": 1000 * task_id + state_index, "outcome": outcome,
        "num_steps": 12, "num_decisions": 2, **rest,
    }  # fmt: skip
    return EpisodeRecord(**values)
