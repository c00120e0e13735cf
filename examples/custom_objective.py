"""A learning rule of your own: advantage-weighted cloning, handed to ``build_trainer``.

Every executed action chunk is imitated with the weight exp(advantage / TEMPERATURE): better rollouts more,
worse ones less. docs/objectives.md has the rules that come with the project.

    python -m examples.custom_objective --config_path pi0/ript/config/debug_train_ript_vla.yaml
"""

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from pi0.ript.algo.flow_matching import FlowMatching, squared_error
from pi0.ript.algo.objective import Indices, Terms
from pi0.ript.build import build_trainer
from pi0.ript.build_policy import build_policy
from pi0.ript.config.load import load_config
from pi0.ript.report.console import setup_logging
from pi0.ript.scripts.train_ript_pi0 import create_env_runner, new_run_dir
from pi0.ript.train.run import train_run
from pi0.ript.types import Batch

TEMPERATURE = 0.5
MAX_WEIGHT = 10.0


class AdvantageWeighted(FlowMatching):
    """Flow matching on executed actions; what such rules have in common is in the base class."""

    def has_signal(self, batch: Batch) -> NDArray[np.bool_]:
        """Return, for each sample of the batch, whether it has a weight in the loss, bool [B]."""
        return batch.weights > 0

    def terms(self, own_index: Indices, epoch: int) -> Terms:
        """Return the loss of a micro-batch, [b]; the update multiplies it by the samples' weights."""
        velocity, target = self.velocity_at(own_index, epoch)
        advantages = self._targets.advantages[own_index]
        weights = (advantages / TEMPERATURE).exp().clamp(max=MAX_WEIGHT)
        return Terms(loss=weights * squared_error(velocity, target).mean(dim=1))


def main(argv: Sequence[str]) -> None:
    """Train as the main script does, with this rule."""
    config, console = load_config(argv), Console(stderr=True)
    # This rule reads the settings of plain cloning.
    config = replace(config, algo=replace(config.algo, objective="bc"))
    setup_logging(config.logging.level, console)
    policy = build_policy(config)
    with create_env_runner(config, policy) as runner:
        run_dir = new_run_dir(config)
        objective = AdvantageWeighted(config.algo)
        trainer = build_trainer(config, policy, runner, run_dir, None, console, objective)
        with closing(trainer):
            train_run(trainer, run_dir)


if __name__ == "__main__":
    main(sys.argv[1:])
