"""TrainConfig -> the runner, which chooses its own simulators and schedule."""

import importlib
import logging
import os
from collections.abc import Callable

import torch

from pi0.records import choose_batch_size
from pi0.ript.config.environment import RunnerName, choose_runner
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.libero.headless import count_egl_devices, resolve_egl_device
from pi0.ript.env.runner import EnvRunner
from pi0.ript.env.suites import all_tasks, locate_task
from pi0.ript.interfaces import Policy

logger = logging.getLogger(__name__)

RunnerClass = Callable[..., EnvRunner]

_RUNNERS: dict[RunnerName, tuple[str, str]] = {
    "serial": ("pi0.ript.env.pi0_libero_runner", "LIBEROEnvRunner"),
    "parallel": ("pi0.ript.env.pi0_libero_runner_ript_vla", "PI0LiberoRunner"),
}


def _import_runner(name: RunnerName) -> tuple[RunnerClass | None, str]:
    """Return a runner class, or None with the reason why it cannot be had."""
    module, attribute = _RUNNERS[name]
    try:
        return getattr(importlib.import_module(module), attribute), ""
    except ImportError as error:
        return None, str(error)


def import_runner_classes() -> tuple[RunnerClass | None, RunnerClass | None]:
    """Return (LIBEROEnvRunner, PI0LiberoRunner); None stands for one that cannot be imported."""
    return _import_runner("serial")[0], _import_runner("parallel")[0]


def create_env_runner(
    config: TrainConfig,
    policy: Policy,
    rank: int = 0,
    world_size: int = 1,
    local_world_size: int = 1,
) -> EnvRunner:
    """Return the runner that the configuration or ``USE_RIPT_VLA_RUNNER`` asks for.

    A runner that cannot be imported is replaced by the other one, with one warning that names the reason.

    Args:
        config: Of the run.
        policy: Acts in the runner's episodes.
        rank: Which of ``world_size`` processes this is.
        world_size: How many processes collect together.
        local_world_size: How many of them share this host; each takes its share of cores and memory.

    Raises:
        RuntimeError: Neither runner can be imported.
    """
    choice = choose_runner(config, os.environ)
    other: RunnerName = "serial" if choice.name == "parallel" else "parallel"
    runner, reason = _import_runner(choice.name)
    name = choice.name
    if runner is None:
        runner, other_reason = _import_runner(other)
        if runner is None:
            raise RuntimeError(
                f"no usable runner: {choice.name}: {reason}; {other}: {other_reason}"
            )
        name = other
        logger.warning(
            "the %s runner was requested by %s but cannot be imported (%s); using the %s runner instead; "
            "run 'make setup' to repair the installation",
            choice.name, choice.source, reason, other,
        )  # fmt: skip
    chosen = runner(
        policy=policy,
        benchmark_name=config.task.benchmark_name,
        rollouts_per_env=config.algo.rloo_batch_size,
        num_parallel_envs=config.task.num_parallel_envs,
        max_episode_length=config.task.max_episode_length,
        task_names_to_use=[f"{suite}/{index}" for suite, index in resolve_tasks(config)],
        config=config,
        rank=rank,
        world_size=world_size,
        local_world_size=local_world_size,
        egl_device=choose_egl_device(config),
        batch_size=choose_batch_size(
            config.policy.batch_size, "cuda" if uses_gpu(config) else "cpu"
        ),
    )
    if rank == 0:
        logger.info(
            "runner: %s, chosen by %s: %s", _RUNNERS[name][1], choice.source, chosen.sizing.line
        )
    return chosen


def resolve_tasks(config: TrainConfig) -> tuple[tuple[str, int], ...]:
    """Return (suite, task index) of every task of a run; unknown names are errors."""
    suite, task = config.task.benchmark_name, config.task
    named = (task.task_name,) if task.task_name is not None else task.task_names_to_use
    tasks = [locate_task(suite, name) for name in named]
    return tuple(dict.fromkeys(tasks)) or tuple(all_tasks(suite))


def uses_gpu(config: TrainConfig) -> bool:
    """Return whether the policy computes on a GPU."""
    return config.policy.device != "cpu" and torch.cuda.is_available()


def choose_egl_device(config: TrainConfig) -> int | None:
    """Return the GPU that simulators draw on, as EGL counts them; None keeps the environment's."""
    cuda_index = torch.cuda.current_device() if uses_gpu(config) else None
    if config.env.uses_cluster and config.env.egl_device == "auto":
        return None  # which GPU this host computes on says nothing about those that draw
    return resolve_egl_device(config.env.egl_device, cuda_index, os.environ, count_egl_devices)
