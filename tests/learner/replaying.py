"""A small pi0 that learns with replay."""

from torch import Tensor

from pi0.ript.build_learner import build_objective
from pi0.ript.config.algo import AlgoConfig
from pi0.ript.config.sections import OptimizerConfig
from pi0.ript.engine.single import SingleEngine
from pi0.ript.learner.replay import Replay
from pi0.ript.learner.stats import UpdateStats
from pi0.ript.learner.update import update
from pi0.ript.types import Batch
from tests.learner.samples import SAMPLING, draw_batch
from tests.learner.updates import NUM_SAMPLES, Recorder
from tests.policy_parts import small_policy

ALGO = AlgoConfig(
    num_epochs=1, num_minibatches=1, micro_batch_size=4, warmup_steps=0, kl_stop=None, replay_steps=2
)  # fmt: skip
MOVING, STILL = 3e-4, 1e-300  # learning rates: float32 rounds the second one's steps to nothing
NUM_SHARES = 4


class Learner:
    """A small pi0 that learns with replay, one update after the other."""

    def __init__(self, algo: AlgoConfig = ALGO, lr: float = MOVING) -> None:
        self.algo = algo
        self.policy = small_policy()
        self.objective = build_objective(algo)
        self.replay = Replay(algo.replay_steps)
        parameters = self.policy.trainable_parameters(expert_only=True)
        self.engine = SingleEngine(parameters, OptimizerConfig(), lr, 0, algo.grad_norm_clip)

    def draw(self, step: int) -> Batch:
        return draw_batch(self.policy, NUM_SAMPLES, seed=step)

    def learn(self, step: int, batch: Batch | None = None) -> tuple[Batch, UpdateStats]:
        batch = self.replay.join(step, batch or self.draw(step), NUM_SHARES)
        stats = update(
            self.policy, self.engine, batch, self.objective, self.algo, SAMPLING, step,
            has_frozen_prefix=True,
        )  # fmt: skip
        assert stats is not None
        self.replay.keep(step, batch, NUM_SHARES, self.objective)
        return batch, stats


def gradient(learner: Learner, batch: Batch) -> Tensor:
    """Return the gradient of one minibatch of everything."""
    recorder = Recorder(learner.policy.trainable_parameters(expert_only=True))
    update(
        learner.policy, recorder, batch, build_objective(learner.algo), learner.algo, SAMPLING, 5,
        has_frozen_prefix=True,
    )  # fmt: skip
    return recorder.gradients[0]
