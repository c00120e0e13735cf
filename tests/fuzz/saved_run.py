"""A real run directory with two checkpoints to be damaged, made once in half a second."""

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from safetensors.torch import load_file

from pi0.ript.build_learner import build_engine, build_objective
from pi0.ript.config.schema import TrainConfig, TrainingConfig
from pi0.ript.evaluation.episodes import write_evaluation
from pi0.ript.learner.update import update
from pi0.ript.report.jsonl import JsonlReporter
from pi0.ript.train.checkpoints.state import PolicySnapshot, TrainingState
from pi0.ript.train.checkpoints.store import find_last, save_checkpoint
from pi0.ript.train.progression import Progression
from tests.evaluation.records import make_record
from tests.fuzz.live_pool import LivePool
from tests.learner.samples import SAMPLING, draw_batch
from tests.policy_parts import small_policy

CONFIG = TrainConfig()


@dataclass
class SavedRun:
    """A run in ``folder``, with a pristine copy of everything in ``original``."""

    folder: Path
    original: Path

    @property
    def newest(self) -> Path:
        return self.folder / "checkpoints" / "2"

    @cached_property
    def live_pool(self) -> LivePool:
        """Return simulators that stay between inputs; they start with the first one for them."""
        return LivePool()

    def close(self) -> None:
        """End what was started."""
        if "live_pool" in vars(self):
            self.live_pool.close()

    def repair(self) -> None:
        """Undo every damage."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.original, self.folder, symlinks=True)


def save_run(folder: Path) -> SavedRun:
    """Train two steps and write what a run writes."""
    original = folder / "original"
    original.mkdir(parents=True)
    policy = small_policy()
    engine, objective = build_engine(CONFIG, policy), build_objective(CONFIG.algo)
    reporter = JsonlReporter(original / "metrics.jsonl")
    for step in (1, 2):
        batch = draw_batch(policy, 4, seed=step)
        update(
            policy, engine, batch, objective, CONFIG.algo, SAMPLING, step, has_frozen_prefix=True
        )
        state = TrainingState(
            step=step,
            engine=engine.state(),
            sampler_position=8 * step,
            counters=Progression(
                training=TrainingConfig(), step=step, recent_success=(0.5,)
            ).counters(),
            config_hash="abc",
            objective=objective.state(),
        )
        save_checkpoint(original, PolicySnapshot.of(policy), state, keep=2)
        reporter.log(step, {"rollout/success_rate": 0.5})
    reporter.close()
    write_evaluation(original / "evaluations" / "step_0.json", {}, [make_record()])
    assert find_last(original).name == "2"
    assert load_file(original / "checkpoints/2/training_state/optimizer.safetensors")
    run = SavedRun(folder=folder / "run", original=original)
    shutil.copytree(original, run.folder, symlinks=True)
    return run
