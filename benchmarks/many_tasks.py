"""One run of all tasks of a suite against a run for every task: the same episodes, seconds of each.

    python benchmarks/many_tasks.py [--suite libero_object] [--quick] [--json FILE]

In a step every task has one group of 8 rollouts of one initial state, by the embedded policy and under the settings of the
suite's recipe. The first step includes starting simulator processes and building scenes, the second one does not. Runs of
one task follow each other, each with processes of its own; what they would take to load Python and the policy is not
counted. Status 1 if any episode differs between the two sides.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.document import ROOT
from benchmarks.parts.measure import add_output_arguments, describe_machine, table, write_json
from pi0.checkpoint import load_policy
from pi0.policy import Pi0Policy
from pi0.ript.config.load import read_config
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.suites import locate_task
from pi0.ript.seeding import derive_seed, practice_fixtures
from pi0.ript.types import EpisodeRequest

SUITES = ("libero_object", "libero_spatial", "libero_goal")
NUM_STEPS, GROUP_SIZE = 2, 8


@dataclass(slots=True)
class Side:
    """What one side did.

    Attributes:
        seconds: Of every step.
        num_env_steps: Control steps of every step.
        hashes: Of the executed actions, by (step, task, rollout).
    """

    seconds: list[float] = field(default_factory=lambda: [0.0] * NUM_STEPS)
    num_env_steps: list[int] = field(default_factory=lambda: [0] * NUM_STEPS)
    hashes: dict[tuple[int, int, int], str] = field(default_factory=dict[tuple[int, int, int], str])

    def run(self, config: TrainConfig, policy: Pi0Policy, task_ids: Sequence[int]) -> None:
        """Do the episodes of some tasks in one runner and add what they took."""
        suite = config.task.benchmark_name
        with PI0LiberoRunner(
            policy, suite, GROUP_SIZE, config.task.num_parallel_envs, config=config
        ) as runner:
            for step in range(NUM_STEPS):
                started = time.perf_counter()
                waiting = iter(requests(config, task_ids, step))
                sampling = config.algo.sampling(step + 1, policy.card.denoise_steps)
                for episode in runner.run(lambda: next(waiting, None), sampling):  # noqa: B023 - used up within
                    request = episode.request
                    key = step, request.initial_state.task_id, request.rollout
                    self.hashes[key] = episode.actions_hash
                    self.num_env_steps[step] += episode.num_steps
                self.seconds[step] += time.perf_counter() - started


def requests(config: TrainConfig, task_ids: Sequence[int], step: int) -> list[EpisodeRequest]:
    """Return the rollouts of one step, a group per task."""
    suite, limit = config.task.benchmark_name, config.task.max_episode_length
    assert limit is not None, "recipes have a limit"
    return [
        EpisodeRequest(
            initial_state=make_initial_state(suite, task_id, step, practice_fixtures(suite, task_id, step)),
            seed=derive_seed("many_tasks", step, task_id, rollout),
            max_steps=limit,
            group=group,
            rollout=rollout,
        )
        for group, task_id in enumerate(task_ids)
        for rollout in range(GROUP_SIZE)
    ]  # fmt: skip


def main(argv: Sequence[str]) -> int:
    """Run both sides, print seconds, return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_output_arguments(parser)
    parser.add_argument("--suite", choices=SUITES, default="libero_object")
    arguments = parser.parse_args(argv)
    config = read_config(ROOT / "pi0" / "ript" / "config" / f"{arguments.suite}.yaml")
    names = config.task.task_names_to_use
    task_ids = (
        [locate_task(arguments.suite, name)[1] for name in names] if names else list(range(10))
    )
    task_ids = task_ids[:2] if arguments.quick else task_ids
    policy = load_policy("builtin")

    sides = {"one run of all": Side(), "a run for every task": Side()}
    together, apart = sides.values()
    together.run(config, policy, task_ids)
    for task_id in task_ids:
        apart.run(config, policy, [task_id])

    rows = [
        [name, *(f"{each:.1f}" for each in side.seconds), side.num_env_steps[1],
         f"{side.num_env_steps[1] / side.seconds[1]:.0f}"]
        for name, side in sides.items()
    ]  # fmt: skip
    header = ["side", "first step, s", "second step, s", "its control steps", "control steps per s"]
    print(table(header, rows))
    found = {
        name: {"seconds": side.seconds, "env_steps": side.num_env_steps}
        for name, side in sides.items()
    }
    same = together.hashes == apart.hashes
    print(
        f"{len(together.hashes)} episodes of {len(task_ids)} tasks, "
        + ("the same" if same else "NOT the same")
    )
    machine = describe_machine()
    write_json(
        arguments.json, {"machine": machine, "sides": found, "same": same}, is_quick=arguments.quick
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
