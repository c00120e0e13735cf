"""Measure a policy on LIBERO: ``ript eval --policy DIR --suite libero_goal --tasks 6 7 --episodes 50``."""

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from pi0.description import describe_policy
from pi0.records import Sampling
from pi0.ript import build
from pi0.ript.atomic import write_atomically
from pi0.ript.config.schema import (
    Auto,
    EvaluationConfig,
    FeaturesConfig,
    PolicyConfig,
    TaskConfig,
    TrainConfig,
    TrainingConfig,
)
from pi0.ript.env.suites import step_limit, task_language
from pi0.ript.interfaces import Policy
from pi0.ript.report.console import make_progress, setup_logging
from pi0.ript.report.summary import success_rates, success_table
from pi0.ript.report.video import Film, FilmWriter
from pi0.ript.scripts.flags import add_policy_flags, read_overrides
from pi0.ript.scripts.train_ript_pi0 import create_env_runner
from pi0.ript.train.controls import BlindPolicy, MutePolicy, next_instruction
from pi0.ript.train.evaluate import (
    EpisodeRecord,
    evaluate,
    evaluation_requests,
    success_by_task,
)

logger = logging.getLogger(__name__)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    defaults = TaskConfig()
    parser = argparse.ArgumentParser(prog="ript eval", description=__doc__)
    parser.add_argument("--policy", default="builtin", help="builtin or a checkpoint folder")
    parser.add_argument("--suite", required=True, help="one or more suites, separated by commas")
    parser.add_argument("--tasks", nargs="*", default=[], help="names or indices; default all")
    parser.add_argument("--episodes", type=int, default=50, help="per task")
    parser.add_argument(
        "--num_parallel_envs",
        type=number_or_auto,
        default=defaults.num_parallel_envs,
        help="simulator slots, or auto",
    )
    parser.add_argument("--held_out_states", type=int, default=defaults.num_held_out_states)
    parser.add_argument(
        "--max_episode_length", type=int, default=None, help="default: the suite's limit"
    )
    parser.add_argument(
        "--denoise_steps", type=int, default=None, help="default: what the policy is meant for"
    )
    add_policy_flags(parser)
    parser.add_argument("--seed", type=int, default=TrainingConfig().seed)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--control",
        choices=("none", "blind", "mute"),
        default="none",
        help="blind: grey pictures; mute: every task gets the instruction of the next one",
    )
    parser.add_argument("--save_videos", type=int, default=0, help="episodes filmed per task")
    parser.add_argument(
        "--output_dir", type=Path, default=None, help="receives results.json and videos"
    )
    return parser.parse_args(argv)


def number_or_auto(text: str) -> int | Auto:
    """Return a whole number, or ``auto`` as it stands."""
    return "auto" if text == "auto" else int(text)


def to_config(arguments: argparse.Namespace, suite: str) -> TrainConfig:
    """Return the settings of an evaluation of one suite."""
    return TrainConfig(
        policy_path=arguments.policy,
        norm_stats_path=arguments.norm_stats_path,
        task=TaskConfig(
            benchmark_name=suite,
            task_names_to_use=tuple(arguments.tasks),
            num_parallel_envs=arguments.num_parallel_envs,
            num_held_out_states=arguments.held_out_states,
            max_episode_length=arguments.max_episode_length,
        ),
        policy=PolicyConfig(
            device=arguments.device,
            denoise_steps=arguments.denoise_steps or PolicyConfig().denoise_steps,
            protocol=arguments.protocol,
            tokenizer_path=arguments.tokenizer_path,
            overrides=read_overrides(arguments.override),
        ),
        training=TrainingConfig(seed=arguments.seed),
        evaluation=EvaluationConfig(
            rollouts_per_task=arguments.episodes, save_videos=arguments.save_videos
        ),
        features=FeaturesConfig(use_ript_vla_runner=arguments.num_parallel_envs != 1),
    )


def with_control(policy: Policy, control: str, instructions: Sequence[str]) -> Policy:
    """Return the policy, or one that lacks a sense."""
    if control == "blind":
        return BlindPolicy(policy)
    return MutePolicy(policy, next_instruction(instructions)) if control == "mute" else policy


def evaluate_suites(
    arguments: argparse.Namespace,
) -> tuple[dict[str, object], list[EpisodeRecord]]:
    """Run all suites with one loaded policy and one set of simulators; return its card too."""
    configs = [to_config(arguments, suite) for suite in arguments.suite.split(",")]
    requests = [
        replace(request, group=len(configs) * request.group + position)
        for position, config in enumerate(configs)
        for request in evaluation_requests(
            build.resolve_tasks(config),
            episodes_per_task=arguments.episodes,
            held_out=arguments.held_out_states,
            fixture_seed=config.task.fixture_seed,
            seed=arguments.seed,
            max_episode_length=arguments.max_episode_length
            or step_limit(config.task.benchmark_name),
            num_filmed=arguments.save_videos if arguments.output_dir else 0,
        )
    ]
    tasks = [task for config in configs for task in build.resolve_tasks(config)]
    instructions = [task_language(*task) for task in tasks]
    loaded = build.build_policy(configs[0])
    policy = with_control(loaded, arguments.control, instructions)
    if arguments.output_dir:
        arguments.output_dir.mkdir(parents=True, exist_ok=True)
    sampling = Sampling(num_steps=arguments.denoise_steps or loaded.card.denoise_steps)
    progress = make_progress(Console(stderr=True))
    with (
        create_env_runner(configs[0], policy) as runner,
        progress.stage("evaluate", len(requests)) as show,
        FilmWriter.within(configs[0].video) as writer,
    ):
        film = Film(writer, (arguments.output_dir or Path()) / "videos", show)
        records = evaluate(lambda source: runner.run(source, sampling), requests, film)
    return describe_policy(loaded) | {"denoise_steps": sampling.num_steps}, records


def main(argv: Sequence[str]) -> None:
    """Evaluate, print the table, write ``results.json``."""
    arguments = parse(argv)
    if arguments.episodes < 1:
        raise ValueError(f"--episodes must be >= 1, got {arguments.episodes}")
    if arguments.save_videos and not arguments.output_dir:
        raise ValueError("--save_videos needs --output_dir DIR to put the films in")
    setup_logging("INFO", Console(stderr=True))
    card, records = evaluate_suites(arguments)
    num_crashed = sum(not record.is_complete for record in records)
    if num_crashed:
        logger.warning("%d of %d episodes crashed and are not counted", num_crashed, len(records))
    outcomes = success_by_task(records)
    print(success_table(outcomes), end="")
    if arguments.output_dir:
        results = {
            "policy": arguments.policy,
            "policy_card": card,
            "num_crashed": num_crashed,
            "success": {name: asdict(rate) for name, rate in success_rates(outcomes).items()},
            "episodes": [record.to_dict() for record in records],
        }
        write_atomically(
            arguments.output_dir / "results.json", json.dumps(results, indent=1) + "\n"
        )
