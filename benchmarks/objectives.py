"""Compare learning rules: ``python benchmarks/objectives.py --output_dir DIR [--publish]``.

Every arm trains on the same task from the same policy with the same seeds, through the program that users run, until it has
used the same number of simulator steps. The first checkpoints beyond fixed numbers of them are evaluated (``ript eval``) on
the same held-out episodes; success at such a number lies on a straight line. Several calls with one folder add up, e.g. one
for negative controls with ``--arms permuted flipped --seeds 0``. The result is ``objectives.json`` and a plot per task; an
interrupted comparison continues where it was.
``--publish`` adds the runs of the folder to those in ``benchmarks/measured/objectives.json`` and writes docs/results.md and its
plots from all of them, so that a comparison may be spread over machines.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.document import ROOT, command_line
from benchmarks.training.objectives_report import Curve, draw, merged, publish, table
from benchmarks.training.objectives_runs import Arm, Task
from pi0.files import write_atomically

TRAINING = "pi0.ript.scripts.train_ript_pi0"
MEASURED = ROOT / "benchmarks" / "measured" / "objectives.json"
FAST_BC = ("--algo.objective=bc", "--algo.lr=1e-4", "--algo.num_epochs=4")
FAST_SDE = ("--algo.lr=1e-4", "--algo.num_epochs=4", "--algo.kl_stop=0.3")
ARMS: dict[str, tuple[str, ...]] = {
    "flow_sde": (),
    # the preset's sampler with the optimizer settings of the other arms, so that only the rule differs
    "flow_sde one step": ("--algo.scored_steps=one",),
    "nft": ("--algo.objective=nft",),
    "cfg": ("--algo.objective=cfg",),
    "bc": ("--algo.objective=bc",),
    "parity": ("--algo.preset=parity",),
    # more and longer updates from the same rollouts
    "bc fast": FAST_BC,
    # all successes of the last eight steps, with six times the optimizer steps
    "bc replay": (*FAST_BC, "--algo.replay_steps=8", "--algo.num_minibatches=12"),
    # half as many rollouts per update, each used in two
    "bc fast half": (*FAST_BC, "--algo.demo_batch_size=3", "--algo.replay_steps=1"),
    # the same without the second use
    "bc fast small": (*FAST_BC, "--algo.demo_batch_size=3"),
    "bc fast advantage": (*FAST_BC, "--algo.success_weight=advantage"),
    "flow_sde fast": FAST_SDE,
    "flow_sde fast half": (*FAST_SDE, "--algo.demo_batch_size=3", "--algo.replay_steps=1"),
    # credit within episodes, and rollouts used more than once
    "critic": ("--algo.critic=value",),
    "replay": ("--algo.replay_steps=2",),
    "replay decoupled": ("--algo.replay_steps=2", "--algo.replay_weighting=decoupled"),
    # twice the updates, each from as many samples as the default's
    "half batch replay": ("--algo.demo_batch_size=3", "--algo.replay_steps=1"),
    # pi_RL's PPO with the batch of the other arms; its own is 512 episodes
    "ppo": ("--algo.preset=ppo", "--algo.demo_batch_size=48", "--algo.num_minibatches=2"),
    # more updates from the same rollouts
    "half batch": ("--algo.demo_batch_size=3",),
    "K 4": ("--algo.rloo_batch_size=4",),
    # longer updates
    "twice lr": ("--algo.lr=6e-5", "--algo.kl_stop=0.08"),
    # states whose rollouts will probably differ
    "informative": ("--algo.state_sampling=informative",),
    # how the noise of rollouts matters to rules that need no likelihood
    "nft quiet": ("--algo.objective=nft", "--algo.noise.final_std=0.03"),
    "cfg noisy": ("--algo.objective=cfg", "--algo.noise.scale=0.5"),
    "bc noisy": ("--algo.objective=bc", "--algo.noise.scale=0.5"),
}
# Negative controls: rewards that carry no signal, or rewards for failure, and the rule that learns from them.
CONTROLS = {
    "permuted": ("permuted", "flow_sde"),
    "flipped": ("flipped", "flow_sde"),
    "bc fast permuted": ("permuted", "bc fast"),
    "bc fast flipped": ("flipped", "bc fast"),
    "bc fast half permuted": ("permuted", "bc fast half"),
    "bc fast half flipped": ("flipped", "bc fast half"),
}
TASKS = {
    # the quickstart's, with a base of about a third
    "salad": Task(
        name="salad",
        suite="libero_object",
        task_id=2,
        overrides=(),
        env_steps=(19_000, 38_000),
    ),
    # a base of about a seventh: two objects to tell apart, and a reach across the table
    "cabinet": Task(
        name="cabinet",
        suite="libero_spatial",
        task_id=9,
        overrides=("--task.benchmark_name=libero_spatial", "--task.task_name=9"),
        env_steps=(30_000, 60_000),
    ),
}


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Return flags, and those that are not known here, which are passed on to every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=ROOT / "benchmarks" / "objectives.yaml")
    parser.add_argument("--tasks", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--arms", nargs="*", default=list(ARMS), choices=[*ARMS, *CONTROLS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--env_steps", nargs="+", type=int, help="simulator steps instead of the task's, to try it"
    )
    parser.add_argument("--episodes", type=int, default=100, help="per evaluation")
    parser.add_argument("--publish", action="store_true", help="write docs/results.md")
    return parser.parse_known_args()


def tasks_of(given: argparse.Namespace) -> dict[str, Task]:
    """Return all tasks, compared after the simulator steps that were given, if any."""
    if given.env_steps is None:
        return TASKS
    env_steps = tuple(sorted(given.env_steps))
    return {name: replace(task, env_steps=env_steps) for name, task in TASKS.items()}


def make_arm(given: argparse.Namespace, task: Task, name: str, seed: int, extra: list[str]) -> Arm:
    """Return one run of an arm."""
    control, rule = CONTROLS.get(name, (None, name))
    program = ("benchmarks.reward_controls", control) if control else (TRAINING,)
    return Arm(
        task=task,
        name=name,
        seed=seed,
        program=program,
        options=("--config_path", str(given.config), *task.overrides, *ARMS[rule], *extra),
        output=given.output_dir,
    )


def finished(given: argparse.Namespace, task: Task) -> list[Curve]:
    """Return the curves of all runs of a folder that were evaluated at every mark, whichever call made them."""
    folders = {name: name.replace(" ", "_") for name in (*ARMS, *CONTROLS)}
    arms = [
        make_arm(given, task, name, int(path.name.removeprefix("seed_")), [])
        for name, folder in folders.items()
        for path in sorted((given.output_dir / task.name / folder).glob("seed_*"))
    ]
    return [curve for arm in arms if (curve := arm.curve()) is not None]


def dump(curves: Mapping[str, Sequence[Curve]]) -> str:
    """Return the curves of every task as JSON."""
    plain = {name: [asdict(curve) for curve in found] for name, found in curves.items()}
    return json.dumps(plain, separators=(",", ":")) + "\n"


def load(path: Path) -> dict[str, list[Curve]]:
    """Return the curves of every task of a file, none if there is no file."""
    plain = json.loads(path.read_text()) if path.is_file() else {}
    return {name: [Curve(**curve) for curve in found] for name, found in plain.items()}


def main() -> None:
    """Run the chosen arms and write the comparison of all that the folder holds."""
    given, extra = parse()
    output: Path = given.output_dir
    tasks = tasks_of(given)
    for task in (tasks[name] for name in given.tasks):
        for seed in given.seeds:
            for name in given.arms:
                make_arm(given, task, name, seed, extra).measure(given.episodes)
    curves = {name: found for name, task in tasks.items() if (found := finished(given, task))}
    write_atomically(output / "objectives.json", dump(curves))
    for name, found in curves.items():
        draw(found, output / f"objectives_{name}.png")
        print("\n".join([name, *table(found, tasks[name].env_steps)]))
    if given.publish:
        command = command_line(ROOT)
        every = {name: merged(load(MEASURED).get(name, []), curves.get(name, [])) for name in tasks}
        write_atomically(MEASURED, dump(every))
        publish(
            {name: (found, tasks[name].env_steps) for name, found in every.items() if found},
            command,
        )


if __name__ == "__main__":
    main()
