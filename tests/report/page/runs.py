"""Run directories for the tests of this folder: written by the real writers, the rollouts are made up."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pi0.ript.config.load import save_config
from pi0.ript.config.schema import EvaluationConfig, TaskConfig, TrainConfig, TrainingConfig
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.report.episode_log import EpisodeLog
from pi0.ript.report.jsonl import JsonlReporter
from pi0.ript.report.launches import record_launch
from pi0.ript.report.video import video_name, write_video

K = 4
GROUPS = 3
DRIVER = {"GL vendor": "Mesa", "GL renderer": "llvmpipe (LLVM 15)", "GL version": "4.5"}
TASKS = {7: "turn on the stove", 3: "put <b>the bowl</b> & the plate"}


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a made-up run should look like."""

    num_steps: int = 6
    seed: int = 1
    tasks: tuple[int, ...] = (7,)
    num_recorded: int = 1
    num_held_out: int = 10
    final_evaluation: bool = True


def make_run(folder: Path, made: Made | None = None) -> Path:
    """Write a run directory and return it."""
    made = made or Made()
    folder.mkdir(parents=True)
    config = TrainConfig(
        exp_name="made up",
        task=TaskConfig(task_names_to_use=made.tasks, max_episode_length=100),
        training=TrainingConfig(num_train_steps=made.num_steps, seed=made.seed),
        evaluation=EvaluationConfig(rollouts_per_task=made.num_held_out),
    )
    save_config(config, folder / "config.yaml")
    record_launch(folder, 0, "cpu", DRIVER)
    train(folder, made, range(1, made.num_steps + 1))
    write_evaluation(folder, made, step=0, skill=0.4)
    if made.final_evaluation:
        write_evaluation(folder, made, step=made.num_steps, skill=0.9)
    return folder


def train(folder: Path, made: Made, steps: range) -> None:
    """Append metrics and episodes of steps, getting better over time."""
    random = np.random.default_rng([made.seed, steps.start])
    metrics = JsonlReporter(folder / "metrics.jsonl", last_step=steps.start - 1)
    episodes = EpisodeLog(folder / "episodes.jsonl", last_step=steps.start - 1)
    for step in steps:
        skill = 0.3 + 0.6 * step / max(made.num_steps, steps.stop)
        records = rollout_records(made, step, skill, random)
        episodes.log(step, records)
        metrics.log(step, step_metrics(records, step, random))
    metrics.close()
    episodes.close()


def rollout_records(made: Made, step: int, skill: float, random) -> list[EpisodeRecord]:
    """Return the episodes of a step; groups visit the initial states in turn."""
    records = []
    for group in range(GROUPS):
        task = made.tasks[(step + group) % len(made.tasks)]
        outcomes = ["success" if random.random() < skill else "failure" for _ in range(K)]
        if step == 2 and group == 0:
            outcomes[0] = "crashed"
        records += [
            EpisodeRecord(
                suite="libero_goal",
                task_id=task,
                task=TASKS[task],
                state_index=(step * GROUPS + group) % 10,
                group=group,
                rollout=rollout,
                outcome=outcome,
                num_steps=60 + rollout,
                seed=1000 * step + 10 * group + rollout,
                is_accepted=len(set(outcomes)) > 1 and "crashed" not in outcomes,
            )
            for rollout, outcome in enumerate(outcomes)
        ]
    return records


def step_metrics(records: list[EpisodeRecord], step: int, random) -> dict[str, float | str]:
    """Return metrics under the names that a run logs."""
    groups = [records[i : i + K] for i in range(0, len(records), K)]
    done = [record for record in records if record.is_complete]
    return {
        "rollout/success_rate": sum(record.is_success for record in done) / len(done),
        "rollout/groups_accepted": sum(group[0].is_accepted for group in groups),
        "rollout/groups_tried": len(groups),
        "rollout/groups_crashed": sum(any(not r.is_complete for r in g) for g in groups),
        "rollout/groups_all_success": sum(all(r.is_success for r in g) for g in groups),
        "rollout/groups_all_failure": sum(all(r.outcome == "failure" for r in g) for g in groups),
        "rollout/ended_by": "enough groups",
        "rollout/num_episodes": len(done),
        "rollout/episode_length_steps": float(np.mean([record.num_steps for record in done])),
        "rollout/num_retries": int(step == 2),
        "update/loss": float(random.normal()) / 100,
        "update/kl": float(random.random()) / 50,
        "update/clip_fraction": float(random.random()) / 5,
        "update/grad_norm": 3 + float(random.random()),
        "train/num_episodes": step * GROUPS * K,
        "train/num_env_steps": step * GROUPS * K * 60,
        "time/collect_s": 12 + float(random.random()),
        "time/update_s": 3 + float(random.random()),
        "speed/env_steps_per_s": 250 + float(random.random()),
        "speed/worker_0_busy_share": 0.9 + float(random.random()) / 20,
        "speed/worker_1_busy_share": 0.9 + float(random.random()) / 20,
    }


def write_evaluation(folder: Path, made: Made, *, step: int, skill: float) -> None:
    """Write an evaluation as a run does, and videos of its first episodes."""
    random = np.random.default_rng([made.seed, step])
    episodes = [
        {
            "suite": "libero_goal",
            "task_id": task,
            "task": TASKS[task],
            "state_index": 30 + n % 20,
            "seed": 2**61 + n,
            "outcome": "success" if random.random() < skill else "failure",
            "num_steps": 70,
            "num_decisions": 9,
        }
        for task in made.tasks
        for n in range(made.num_held_out)
    ]
    card = {
        "layout": "tiny",
        "parameters": 3_176_903,
        "cameras": ["agentview"],
        "extra_delta": True,
    }
    path = folder / "evaluations" / f"step_{step}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"policy": card, "episodes": episodes}))
    for episode in [e for e in episodes if e["state_index"] < 30 + made.num_recorded]:
        video(folder / "videos" / f"step_{step}", episode)


def video(folder: Path, episode: dict) -> None:
    """Write a video of a square that wanders to the right."""
    folder.mkdir(parents=True, exist_ok=True)
    frames = [np.full((96, 96, 3), 60, np.uint8) for _ in range(9)]
    for n, frame in enumerate(frames):
        frame[40:56, 8 * n : 8 * n + 16] = (230, 120, 20)
    write_video(folder / video_name(EpisodeRecord(**episode)), frames)
