"""One policy on a list of LIBERO episodes, its records on disk as they come."""

import argparse
import logging
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from pi0.description import describe_policy, weights_digest
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.build_policy import build_policy
from pi0.ript.config.env import EnvConfig
from pi0.ript.config.schema import (
    FeaturesConfig,
    PolicyConfig,
    TaskConfig,
    TrainConfig,
    TrainingConfig,
)
from pi0.ript.config.task import STATES_PER_TASK
from pi0.ript.diagnose.run_checks import check_evaluation, require
from pi0.ript.env.suites import step_limit, task_language
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.controls import NoVisionPolicy, WrongInstructionPolicy, next_instruction
from pi0.ript.evaluation.episodes import evaluate, evaluation_requests, request_key
from pi0.ript.evaluation.log import EvaluationLog, Settings
from pi0.ript.evaluation.results import require_common
from pi0.ript.evaluation.video_cost import video_cost
from pi0.ript.interfaces import Policy
from pi0.ript.report.action_log import ACTIONS_NAME, ActionLog
from pi0.ript.report.console import make_progress
from pi0.ript.report.launches import installed_versions, record_launch
from pi0.ript.report.video import EpisodeVideos, VideoWriter
from pi0.ript.scripts.parts.policy_flags import read_overrides
from pi0.ript.scripts.train_ript_pi0 import create_env_runner
from pi0.ript.types import Episode, EpisodeRequest

logger = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """The settings of an evaluation and its records, in the order of the requests."""

    settings: Settings
    records: list[EpisodeRecord]


def evaluate_policy(
    arguments: argparse.Namespace,
    path: str,
    folder: Path,
    *,
    is_other: bool = False,
    earlier: Evaluation | None = None,
) -> Evaluation:
    """Load a policy, run its episodes that ``folder`` does not hold yet, and return all of them.

    Args:
        arguments: The command line of ``ript eval``.
        path: ``builtin`` or a checkpoint folder.
        folder: Receives ``episodes.jsonl``, ``launches.jsonl`` and videos.
        is_other: Whether this is the policy to compare with; flags that decide against the files of
            a policy are about the first one only.
        earlier: Results that these will be compared with.

    Raises:
        ValueError: The episodes cannot be run here, or none is among the earlier ones; nothing is
            written then.
    """
    config = to_config(arguments, path, is_other=is_other)
    loaded = build_policy(config)
    settings = settings_of(arguments, path, loaded)
    policy = with_control(loaded, arguments)
    requests = requests_of(arguments, loaded)
    if earlier is not None:
        require_common(settings, map(request_key, requests), arguments.compare, *earlier)
    require(check_evaluation(arguments.tasks, folder, loaded.card, loaded.tokenizer))
    progress, videos = make_progress(Console(stderr=True)), folder / "videos"
    with EvaluationLog(folder, settings) as log:
        missing = log.missing(requests)
        num_done = len(requests) - len(missing)
        if num_done:
            logger.info("%d of %d episodes are done", num_done, len(requests))
            if arguments.save_videos or arguments.save_rollouts != "none":
                logger.warning(
                    "what is done is not recorded again; for all videos and rollouts choose another --output_dir"
                )
        if missing:
            with (
                create_env_runner(config, policy) as runner,
                progress.stage("evaluate", len(missing)) as show,
                VideoWriter.within(config.video, list(videos.glob("*.mp4"))) as writer,
                video_cost(missing, runner),
                closing(action_log(arguments, folder)) as actions,
            ):
                video = EpisodeVideos(writer, videos, show)

                @cache  # what simulators draw with is known once the first episode is over
                def note_launch() -> None:
                    record_launch(folder, num_done, str(loaded.device), runner.driver)

                def on_episode(episode: Episode) -> None:
                    note_launch()
                    actions.append(
                        [actions.entry(0, episode)]
                    )  # first: an episode in the log is not run again
                    log.add(EpisodeRecord.of(episode))
                    video(episode)

                sampling = Sampling(num_steps=settings["denoise_steps"])
                evaluate(lambda source: runner.run(source, sampling), missing, on_episode)
        return Evaluation(settings, [log.records[request_key(request)] for request in requests])


def action_log(arguments: argparse.Namespace, folder: Path) -> ActionLog:
    """Return what keeps the actions of the episodes that ``--save_rollouts`` names."""
    return ActionLog(folder / ACTIONS_NAME, arguments.save_rollouts, TaskConfig().num_steps_wait)


def to_config(arguments: argparse.Namespace, path: str, *, is_other: bool) -> TrainConfig:
    """Return the settings of policy and simulators."""
    files = {} if is_other else {
        "protocol": arguments.protocol,
        "tokenizer_path": arguments.tokenizer_path,
        "overrides": read_overrides(arguments.override),
    }  # fmt: skip
    return TrainConfig(
        policy_path=path,
        norm_stats_path=None if is_other else arguments.norm_stats_path,
        task=TaskConfig(
            benchmark_name=arguments.tasks[0][0],
            task_names_to_use=tuple(f"{suite}/{task_id}" for suite, task_id in arguments.tasks),
            num_parallel_envs=arguments.num_parallel_envs,
            fixtures=arguments.fixtures,
            fixture_seed=arguments.fixture_seed,
        ),
        env=EnvConfig(exactness=arguments.exactness),
        policy=PolicyConfig(device=arguments.device, **files),
        training=TrainingConfig(seed=arguments.seed),
        features=FeaturesConfig(use_ript_vla_runner=arguments.num_parallel_envs != 1),
    )


def settings_of(arguments: argparse.Namespace, path: str, policy: Pi0Policy) -> dict[str, Any]:
    """Return everything that an outcome may depend on."""
    card = policy.card
    num_steps = arguments.denoise_steps or card.denoise_steps
    if num_steps != card.denoise_steps:
        logger.warning(
            "--denoise_steps is %d and the card of %s says %d, which it was trained with or made for",
            *(num_steps, path, card.denoise_steps),
        )
    suites = dict.fromkeys(suite for suite, _ in arguments.tasks)
    return {
        "policy": path,
        "weights": weights_digest(policy),
        "policy_card": describe_policy(policy),
        "denoise_steps": num_steps,
        "control": arguments.control,
        "device": policy.device.type,
        "tasks": [list(task) for task in arguments.tasks],
        "episodes_per_task": arguments.episodes,
        "initial_states": arguments.initial_states,
        "held_out_states": held_out(arguments),
        "fixtures": arguments.fixtures,
        "fixture_seed": shared_fixture_seed(arguments),
        "settling_steps": TaskConfig().num_steps_wait,
        "seed": arguments.seed,
        "max_steps": {
            suite: step_limit(suite, card.protocol, arguments.max_episode_length)
            for suite in suites
        },
        "versions": installed_versions(),
    }


def shared_fixture_seed(arguments: argparse.Namespace) -> int | None:
    """Return the fixture seed of every episode, None where each has a draw of its own."""
    task = TaskConfig(fixtures=arguments.fixtures, fixture_seed=arguments.fixture_seed)
    return task.shared_fixture_seed


def held_out(arguments: argparse.Namespace) -> int:
    """Return how many of the last initial states are used."""
    return STATES_PER_TASK if arguments.initial_states == "all" else arguments.held_out_states


def requests_of(arguments: argparse.Namespace, policy: Pi0Policy) -> list[EpisodeRequest]:
    """Return the fixed list of episodes."""
    return evaluation_requests(
        arguments.tasks,
        episodes_per_task=arguments.episodes,
        held_out=held_out(arguments),
        fixture_seed=shared_fixture_seed(arguments),
        seed=arguments.seed,
        max_episode_length=arguments.max_episode_length,
        protocol=policy.protocol,
        num_recorded=arguments.save_videos,
        video_rate=arguments.video_rate,
    )


def with_control(policy: Policy, arguments: argparse.Namespace) -> Policy:
    """Return the policy, or one that lacks a sense."""
    if arguments.control == "blind":
        return NoVisionPolicy(policy)
    if arguments.control == "mute":
        instructions = [task_language(*task) for task in arguments.tasks]
        return WrongInstructionPolicy(policy, next_instruction(instructions))
    return policy
