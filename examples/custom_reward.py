"""A reward of your own: let the runner return episodes with another reward.

Training reads ``episode.reward`` and nothing else. This one depends on speed as well: 1 for an instant
success, 0.5 for one in the last step, 0 for a failure. ``run_policy_in_env`` and evaluation keep LIBERO's own
success, because they read ``outcome``.

    python -m examples.custom_reward --config_path pi0/ript/config/debug_train_ript_vla.yaml
"""

import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields

from rich.console import Console

from pi0.records import Sampling
from pi0.ript.build import build_trainer
from pi0.ript.build_policy import build_policy
from pi0.ript.config.load import load_config
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.rollout.queue import Source, no_more
from pi0.ript.interfaces import EnvPool, Policy
from pi0.ript.report.console import setup_logging
from pi0.ript.scripts.train_ript_pi0 import new_run_dir
from pi0.ript.train.run import train_run
from pi0.ript.types import Episode


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedEpisode(Episode):
    """An episode whose success is worth more the sooner it comes."""

    @property
    def reward(self) -> float:
        """Return a number in [0.5, 1] for success and 0 for failure."""
        if self.outcome != "success":
            return 0.0
        return 1.0 - 0.5 * self.num_steps / self.request.max_steps


def timed(episode: Episode) -> TimedEpisode:
    """Return the same episode with the other reward."""
    values = {field.name: getattr(episode, field.name) for field in fields(episode)}
    return TimedEpisode(**values)


class TimedRunner(PI0LiberoRunner):
    """The parallel runner; its episodes are timed."""

    def run(
        self,
        source: Source,
        sampling: Sampling,
        pool: EnvPool | None = None,
        policy: Policy | None = None,
        spare: Source = no_more,
    ) -> Generator[Episode, None, None]:
        """Yield every episode with its reward."""
        with closing(super().run(source, sampling, pool, policy, spare)) as episodes:
            for episode in episodes:
                yield timed(episode)


def main(argv: Sequence[str]) -> None:
    """Train as the main script does, with the timed runner."""
    config, console = load_config(argv), Console(stderr=True)
    setup_logging(config.logging.level, console)
    policy = build_policy(config)
    with TimedRunner(policy, rollouts_per_env=config.algo.rloo_batch_size, config=config,
                     num_parallel_envs=config.task.num_parallel_envs) as runner:  # fmt: skip
        run_dir = new_run_dir(config)
        with closing(build_trainer(config, policy, runner, run_dir, None, console)) as trainer:
            train_run(trainer, run_dir)


if __name__ == "__main__":
    main(sys.argv[1:])
