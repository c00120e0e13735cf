"""A trainer built as for LIBERO around toy simulators, in this process."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console

from pi0.policy import Pi0Policy
from pi0.records import Observation
from pi0.ript.build import build_trainer
from pi0.ript.build_policy import build_policy, find_base
from pi0.ript.config.schema import TrainConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.interfaces import Ranks, Reply
from pi0.ript.train.checkpoints.folder import POLICY_FOLDER
from pi0.ript.train.checkpoints.store import find_last
from pi0.ript.train.trainer import Trainer
from tests.train.toy_run import ToyPool, ToyRunner


class CountingPool(ToyPool):
    """Toy simulators that count commands and can break, see nothing or misjudge the time."""

    def __init__(self) -> None:
        super().__init__()
        self.num_requests = 0
        self.is_broken = False
        self.sees_nothing = False
        self.timings: dict[str, float] = {}
        self.succeeds: Callable[[int], bool] | None = None

    def wait(self):
        """Return every finished command."""
        if self.is_broken:
            raise RuntimeError("the simulators are gone")
        replies = super().wait()
        self.num_requests += len(replies)
        return [
            replace(
                r, observation=self._seen(r), timings=self.timings, is_success=self._is_success(r)
            )
            for r in replies
        ]

    def _is_success(self, reply: Reply) -> bool:
        if self.succeeds is None:
            return reply.is_success
        return reply.num_steps > 0 and self.succeeds(reply.slot)

    def _seen(self, reply: Reply) -> Observation | None:
        if reply.observation is None or not self.sees_nothing:
            return reply.observation
        return replace(reply.observation, proprio=np.full(9, np.nan))


class CountingRunner(ToyRunner):
    """A runner whose simulators can be watched."""

    def _make_pool(self):
        self.pool = CountingPool()
        return self.pool


@contextmanager
def toy_trainer(
    config: TrainConfig,
    policy: Pi0Policy,
    run_dir: Path,
    *,
    resumes: bool = False,
    ranks: Ranks = SINGLE_PROCESS,
) -> Iterator[tuple[Trainer, CountingPool]]:
    """Open a trainer at its beginning or where its newest checkpoint stands, and its simulators."""
    run_dir.mkdir(exist_ok=True)
    checkpoint = find_last(run_dir) if resumes else None
    finding = find_base(config, checkpoint)
    base = finding and finding.result()
    if checkpoint is not None:
        policy = build_policy(config, checkpoint / POLICY_FOLDER)
    with CountingRunner(policy, config=config) as runner:
        runner.start()
        trainer = build_trainer(
            config, policy, runner, run_dir, checkpoint, Console(quiet=True), ranks=ranks, base=base
        )
        with closing(trainer):
            yield trainer, runner.pool
