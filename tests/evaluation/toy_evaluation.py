"""An evaluation without a simulator, also as a program that can be killed.

python -m tests.evaluation.toy_evaluation FOLDER [--kill_after N]
"""

import argparse
import os
import random
import signal
import sys
from pathlib import Path

from pi0.records import Sampling
from pi0.ript.env.rollout.scheduler import Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.episodes import evaluate
from pi0.ript.evaluation.log import EvaluationLog
from tests.env.toys import ToyPolicy, ToyPool, toy_request

SETTINGS = {
    "seed": 42,
    "fixtures": "per_episode",
    "card": {"protocol": "openpi"},
    "tasks": [["libero_goal", 0]],
}


def toy_requests():
    """12 episodes of 3 tasks: some succeed after n steps, those of state 0 never do."""
    return [
        toy_request(seed=100 * task + n, succeeds_after=n, task_id=task)
        for task in range(3)
        for n in range(4)
    ]


def toy_runner(num_slots, crashes=None):
    """A runner bound to its sampling: the real scheduler on a pool that replies in random order."""
    pool = ToyPool(num_slots, shuffle_seed=num_slots, crashes=crashes, max_scenes=3)
    return lambda source: Scheduler(
        pool, ToyPolicy(), source, sampling=Sampling(num_steps=2), batch_size=4, max_attempts=3,
        max_restarts=20, stats=RolloutStats(),
    ).run()  # fmt: skip


def toy_records(requests, num_slots, crashes=None, on_episode=lambda episode: None):
    return evaluate(toy_runner(num_slots, crashes), requests, on_episode)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill_after", type=int, default=None)
    arguments = parser.parse_args()
    with EvaluationLog(arguments.folder, SETTINGS) as log:
        missing = log.missing(random.Random(1).sample(toy_requests(), 12))
        sys.stdout.write(f"{len(missing)} left\n")

        def on_episode(episode):
            log.add(EpisodeRecord.of(episode))
            if len(log.records) == arguments.kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

        toy_records(missing, num_slots=2, on_episode=on_episode)


if __name__ == "__main__":
    main()
