"""What can be known of a run before it begins: the checks of the doctor that are about this run."""

import importlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from pi0.card import PolicyCard
from pi0.ript.config.base import ConfigError
from pi0.ript.config.schema import LoggingConfig, TrainConfig
from pi0.ript.diagnose.checkpoint import Diagnosis
from pi0.ript.diagnose.disk_plan import check_space, predict_checkpoints
from pi0.ript.diagnose.finding import Finding
from pi0.ript.diagnose.machine import check_write_access
from pi0.ript.diagnose.memory_plan import longest_episode, replay_bytes
from pi0.ript.diagnose.simulator import (
    DO_AS_SAID,
    check_drawing_variables,
    check_libero_paths,
    check_simulator_versions,
)
from pi0.ript.env.checks import check_spec
from pi0.ript.env.resources import read_machine
from pi0.ript.env.suites import task_language
from pi0.tokenizer import PromptTokenizer

logger = logging.getLogger(__name__)

LONGEST_IN_WORDS = 0.9

Tasks = Sequence[tuple[str, int]]


def check_run(
    tasks: Tasks, output_dir: Path, policy: Diagnosis, config: TrainConfig
) -> Iterator[Finding]:
    """Yield what is known of a training run; makes nothing and takes about a second.

    Args:
        tasks: (Suite, task number) of every task of the run.
        output_dir: Where the run directory is, or will be made.
        policy: What its folder holds.
        config: Of the run.
    """
    yield from _check_machine(output_dir)
    yield from policy.findings
    if policy.contents is not None:
        card = policy.contents.card
        max_steps = longest_episode(config, card, tasks)
        if config.algo.replay_steps:
            yield check_replay(config, replay_bytes(config, card, max_steps))
        checkpoints = predict_checkpoints(config, policy.contents, max_steps)
        yield check_space(output_dir, checkpoints, config.training.keep_checkpoints)
        yield from check_policy(card, policy.contents.tokenizer, tasks)
    if config.logging.wandb:
        yield check_wandb(config.logging)


def check_evaluation(
    tasks: Tasks, output_dir: Path, card: PolicyCard, tokenizer: Tokenizer
) -> Iterator[Finding]:
    """Yield what is known of an evaluation, see ``check_run``."""
    yield from _check_machine(output_dir)
    yield from check_policy(card, tokenizer, tasks)


def check_policy(card: PolicyCard, tokenizer: Tokenizer, tasks: Tasks) -> Iterator[Finding]:
    """Yield whether scenes have the policy's cameras, and whether it can read every instruction."""
    try:
        check_spec(card.spec)
    except ValueError as error:
        yield Finding(name="cameras", status="error", text=str(error), fix=DO_AS_SAID)
    else:
        yield Finding(name="cameras", status="ok", text=", ".join(card.cameras))
    prompts = PromptTokenizer(
        tokenizer,
        image_token_id=0,
        num_image_tokens=0,
        max_prompt_tokens=card.max_prompt_tokens,
        prompt_format=card.prompt_format,
        prompt_state_dim=card.prompt_state_dim,
    )
    # A state in the prompt may become as long as this one in words: three digits for every number.
    states = np.full((len(tasks), card.state_dim), LONGEST_IN_WORDS)
    try:
        prompts.encode([task_language(*task) for task in tasks], states)
    except ValueError as error:
        yield Finding(name="instructions", status="error", text=str(error), fix=DO_AS_SAID)
    else:
        text = f"all {len(tasks)} fit into {card.max_prompt_tokens} tokens"
        yield Finding(name="instructions", status="ok", text=text)


def check_replay(config: TrainConfig, num_bytes: int) -> Finding:
    """Say whether the samples of earlier steps fit into the memory of this machine.

    Args:
        config: Of the run.
        num_bytes: What they take at their worst.
    """
    num_steps, memory = config.algo.replay_steps, read_machine().memory_bytes
    text = (
        f"samples of {num_steps} earlier steps take up to {num_bytes / 1e9:.2f} GB "
        f"of {memory / 1e9:.2f} GB of memory"
    )
    if num_bytes <= memory:
        return Finding(name="replay", status="ok", text=text)
    fix = f"--algo.replay_steps {num_steps * memory // num_bytes}"
    return Finding(name="replay", status="error", text=text, fix=fix)


def check_wandb(settings: LoggingConfig) -> Finding:
    """Say whether Weights & Biases would take the metrics of a run."""
    # The package is optional; that it is there was checked on reading the configuration.
    module = importlib.import_module("pi0.ript.report.wandb_log")
    try:
        module.require_wandb(settings, os.environ)
    except ConfigError as error:
        return Finding(name="wandb", status="error", text=str(error), fix=DO_AS_SAID)
    return Finding(name="wandb", status="ok", text=f"project {settings.wandb_project}")


def require(findings: Iterable[Finding]) -> None:
    """Log warnings, and stop at the first error.

    Raises:
        ConfigError: Something is wrong; says what to do.
    """
    for finding in findings:
        if finding.status == "error":
            says_fix = finding.fix.startswith(DO_AS_SAID)
            raise ConfigError(finding.text if says_fix else f"{finding.text}; {finding.fix}")
        if finding.status == "warning":
            logger.warning("%s: %s; %s", finding.name, finding.text, finding.fix)


def _check_machine(output_dir: Path) -> Iterator[Finding]:
    yield check_simulator_versions()
    yield check_libero_paths()
    yield check_drawing_variables()
    yield check_write_access(output_dir)
