"""Training that must not work: ``python -m benchmarks.reward_controls permuted|flipped`` + training flags.

``permuted`` deals the rewards of a group out again at random: nothing is left to learn, so success must stay
where it was. ``flipped`` pays for failure: success must fall. Evaluation keeps LIBERO's own success. Both are
arms of ``benchmarks/objectives.py``.
"""

import os
import sys
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, fields

import numpy as np
from rich.console import Console

from pi0.records import Sampling
from pi0.ript.build import build_trainer
from pi0.ript.build_policy import build_policy
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.load import RUN_CONFIG_NAME, load_launch, save_config
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.rollout.queue import Source, no_more
from pi0.ript.interfaces import EnvPool, Policy
from pi0.ript.report.console import setup_logging
from pi0.ript.scripts.train_ript_pi0 import new_run_dir
from pi0.ript.seeding import derive_seed
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER
from pi0.ript.train.checkpoints.store import find_last
from pi0.ript.train.run import train_run
from pi0.ript.types import Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidEpisode(Episode):
    """An episode with a reward of its own.

    Attributes:
        pay: The reward.
    """

    pay: float

    @property
    def reward(self) -> float:
        """Return the pay."""
        return self.pay


def paid(episode: Episode, pay: float) -> PaidEpisode:
    """Return the same episode with another reward."""
    values = {field.name: getattr(episode, field.name) for field in fields(episode)}
    return PaidEpisode(**values, pay=pay)


def flipped(group: list[Episode]) -> list[PaidEpisode]:
    """Return the episodes of a group, paid for failure."""
    return [paid(episode, 1.0 - episode.reward) for episode in group]


def permuted(group: list[Episode]) -> list[PaidEpisode]:
    """Return the episodes of a group with their rewards dealt out anew, the same way in every run."""
    group = sorted(group, key=lambda episode: episode.request.rollout)
    order = np.random.default_rng(derive_seed("permuted", group[0].request.seed))
    rewards = order.permutation([episode.reward for episode in group])
    return [paid(episode, float(pay)) for episode, pay in zip(group, rewards, strict=True)]


CONTROLS = {"flipped": flipped, "permuted": permuted}


class ControlRunner(PI0LiberoRunner):
    """The parallel runner; hands out a group when it is complete, with other rewards."""

    control = staticmethod(flipped)

    def run(
        self,
        source: Source,
        sampling: Sampling,
        pool: EnvPool | None = None,
        policy: Policy | None = None,
        spare: Source = no_more,
    ) -> Generator[Episode, None, None]:
        """Yield the episodes of evaluations at once, those of training group by group."""
        groups: dict[int, list[Episode]] = {}
        with closing(super().run(source, sampling, pool, policy, spare)) as episodes:
            for episode in episodes:
                if not episode.policy_steps or not episode.policy_steps[0].chunk.is_stochastic:
                    yield episode
                    continue
                group = groups.setdefault(episode.request.group, [])
                group.append(episode)
                if len(group) == self.rollouts_per_env:
                    yield from self.control(group)


def main(argv: list[str]) -> None:
    """Train as the main script does, with rewards that carry no signal or the wrong one."""
    ControlRunner.control = staticmethod(CONTROLS[argv[0]])
    launch, console = load_launch(argv[1:], os.environ), Console(stderr=True)
    config = launch.config
    setup_logging(config.logging.level, console)
    checkpoint = find_last(launch.resume) if launch.resume else None
    policy = build_policy(config, checkpoint and checkpoint / POLICY_FOLDER)
    with ControlRunner(policy, rollouts_per_env=config.algo.rloo_batch_size, config=config,
                       task_names_to_use=[f"{s}/{n}" for s, n in resolve_tasks(config)],
                       num_parallel_envs=config.task.num_parallel_envs) as runner:  # fmt: skip
        run_dir = launch.resume or new_run_dir(config)
        trainer = build_trainer(config, policy, runner, run_dir, checkpoint, console)
        save_config(config, run_dir / RUN_CONFIG_NAME)
        with closing(trainer):
            train_run(trainer, run_dir)


if __name__ == "__main__":
    main(sys.argv[1:])
