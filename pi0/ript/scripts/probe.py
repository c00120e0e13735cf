"""Measure how much exploration noise reaches the actions, and recommend a noise scale.

Examples:
    ript probe --suite libero_goal --tasks 7
    ript probe --policy DIR --suite libero_goal --noise_scale 0.3 --denoise_steps 4
"""

import argparse
import logging
import math
from collections.abc import Sequence

from pi0.policy import Pi0Policy
from pi0.records import Observation, Sampling
from pi0.ript.build_policy import build_policy
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.schema import PolicyConfig, TaskConfig, TrainConfig, TrainingConfig
from pi0.ript.config.sections import DEFAULT_NOISE_SCALE
from pi0.ript.diagnose.exploration import ERASED, LEAST_STD, MOST_STD, NoiseGain, measure_noise_gain
from pi0.ript.env.runner import EnvRunner
from pi0.ript.evaluation.episodes import evaluation_requests
from pi0.ript.scripts.parts.flags import Parser, add_seed_and_device, require_number
from pi0.ript.scripts.parts.policy_flags import add_policy_flags, read_overrides
from pi0.ript.scripts.train_ript_pi0 import create_env_runner

logger = logging.getLogger(__name__)

OBSERVATIONS_PER_EPISODE = 4


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser("ript probe", __doc__)
    parser.add_argument("--policy", default="builtin", help="builtin or a checkpoint folder")
    parser.add_argument("--suite", required=True, help="a suite of LIBERO")
    parser.add_argument("--tasks", nargs="*", default=[], help="names or indices; default all")
    parser.add_argument("--observations", type=int, default=32, help="observations that are probed")
    parser.add_argument(
        "--draws", type=int, default=32, help="noise draws per observation and denoise step"
    )
    parser.add_argument(
        "--denoise_steps",
        type=int,
        default=None,
        help="S; default: the card's, which the policy was trained with",
    )
    parser.add_argument(
        "--noise_scale",
        type=float,
        default=DEFAULT_NOISE_SCALE,
        help="algo.noise.scale; default %(default)s",
    )
    add_seed_and_device(parser)
    add_policy_flags(parser)
    arguments = parser.parse_args(argv)
    for name, least in (("observations", 1), ("draws", 2), ("denoise_steps", 2)):
        require_number(arguments, name, least)
    if not 0 < arguments.noise_scale < math.inf:
        raise ValueError(f"--noise_scale must be > 0 and finite, got {arguments.noise_scale}")
    return arguments


def to_config(arguments: argparse.Namespace) -> TrainConfig:
    """Return the settings of a probe: one simulator, the policy as it would be trained."""
    return TrainConfig(
        policy_path=arguments.policy,
        norm_stats_path=arguments.norm_stats_path,
        task=TaskConfig(
            benchmark_name=arguments.suite,
            task_names_to_use=tuple(arguments.tasks),
            num_parallel_envs=1,
        ),
        policy=PolicyConfig(
            device=arguments.device,
            protocol=arguments.protocol,
            tokenizer_path=arguments.tokenizer_path,
            overrides=read_overrides(arguments.override),
        ),
        training=TrainingConfig(seed=arguments.seed),
    )


def collect_observations(
    config: TrainConfig, policy: Pi0Policy, runner: EnvRunner, count: int, num_steps: int
) -> tuple[list[Observation], list[str]]:
    """Return observations and instructions of the first policy steps of episodes, the same in every probe."""
    tasks = resolve_tasks(config)
    requests = evaluation_requests(
        tasks,
        episodes_per_task=-(-count // (OBSERVATIONS_PER_EPISODE * len(tasks))),
        held_out=config.task.num_held_out_states,
        fixture_seed=config.task.shared_fixture_seed,
        seed=config.training.seed,
        max_episode_length=OBSERVATIONS_PER_EPISODE * policy.card.execute_steps,
        protocol=policy.protocol,
    )
    waiting = iter(requests)
    sampling = Sampling(num_steps=num_steps)
    episodes = list(runner.run(lambda: next(waiting, None), sampling))
    observed = [(d.observation, episode.task) for episode in episodes for d in episode.policy_steps]
    if not observed:
        raise ValueError(f"no simulator returned an observation: {episodes[0].error}")
    observations, instructions = zip(*observed[:count], strict=True)
    return list(observations), list(instructions)


def report(gain: NoiseGain) -> str:
    """Return the table and the recommendation."""
    lines = [f"{'step':>6}{'injected':>10}{'executed':>10}{'survives':>10}{'gripper':>10}"]
    lines += [
        f"{entry.step:>6}{entry.injected:>10.3f}{entry.surviving:>10.3f}{entry.gain:>10.0%}"
        f"{entry.gripper_range:>10.3f}"
        for entry in gain.steps
    ]
    lines += [
        f"noise in all steps: executed actions spread by {gain.all_steps:.3f}",
        f"no injected noise: executed actions spread by {gain.initial_noise:.3f} over initial noise",
        f"steps whose noise is erased (less than {ERASED:.0%} survives): "
        f"{gain.erased_steps or 'none'}",
        f"recommended: --algo.noise.final_std {gain.recommended_final_std:.3f} (published recipes leave "
        f"{LEAST_STD} to {MOST_STD} in executed actions)",
    ]
    if gain.erased_steps:
        lines.append(
            f"recommended: --algo.scored_steps all; with one, {len(gain.erased_steps)} of "
            f"{len(gain.steps)} policy steps would explore nothing"
        )
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Parse, observe, probe, report."""
    arguments = parse(argv)
    config = to_config(arguments)
    resolve_tasks(config)  # what can be refused is refused before a policy is loaded
    policy = build_policy(config)
    with create_env_runner(config, policy) as runner:
        num_steps = arguments.denoise_steps or policy.card.denoise_steps
        observations, tasks = collect_observations(
            config, policy, runner, arguments.observations, num_steps
        )
    sampling = Sampling(num_steps=num_steps, noise_scale=arguments.noise_scale)
    gain = measure_noise_gain(
        policy, observations, tasks, sampling, arguments.draws, arguments.seed
    )
    logger.info("%d observations, %d draws each", len(observations), arguments.draws)
    print(report(gain))
