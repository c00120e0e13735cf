"""Replay: the accepted groups of the last M training steps take part in every update beside the new ones.

What is kept of a sample is what was drawn, its advantage, and, for rules that compare likelihoods, the means of its
transitions under the weights that drew them, as its own update computed them before its first optimizer step. So log ratios
to those weights come from the same forward function on both sides: while weights do not change they are 0, up to the
rounding of calls of different sizes. Noise drawn again from the seeds would give the means as well, but as they were computed
when acting, and rounding would pass for a change of the policy (up to 5e-6 in float32, 0.3 in bfloat16; see docs/objectives.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pi0.ript.algo.objective import Objective
from pi0.ript.learner.batch import join, select
from pi0.ript.types import Batch

MOST_GROUPS = 2**20
"""More than a training step ever tries: numbers of groups, of all steps, are step * this + number in the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptStep:
    """The samples of one training step that this rank's update learned from; never changed.

    Attributes:
        step: The training step.
        samples: All of them as replayed samples; ``weights`` are in shares, see ``Totals.num_shares``, and
            ``groups`` are numbers of all steps.
    """

    step: int
    samples: Batch


class Replay:
    """What one rank keeps of the last steps; its groups stay on the rank that collected them.

    Args:
        num_steps: M, training steps that are kept; 0 keeps nothing and changes no batch.
        kept: What a checkpoint holds, in the order of the steps.
    """

    def __init__(self, num_steps: int, kept: Sequence[KeptStep] = ()) -> None:
        self.num_steps = num_steps
        self.kept = tuple(kept)

    def join(self, step: int, batch: Batch, num_shares: int) -> Batch:
        """Return the samples of the last steps, the oldest first, and then those of a new one.

        Args:
            step: The new training step.
            batch: Its samples; where all of them are without weight, they are left out.
            num_shares: Into how many equal shares its loss is divided: an episode of any step weighs one of them.
        """
        if not self.num_steps:
            return batch
        new = replace(batch, groups=batch.groups + step * MOST_GROUPS)
        older = [
            replace(kept.samples, weights=kept.samples.weights / np.float32(num_shares))
            for kept in self.kept
            if kept.step >= step - self.num_steps
        ]
        has_new = bool(batch.weights.any()) or not older
        return join([*older, new] if has_new else older)

    def keep(self, step: int, batch: Batch, num_shares: int, objective: Objective) -> None:
        """Keep the new samples that an update has just learned from; drop those that are too old for the next one.

        Args:
            step: The training step.
            batch: What ``join`` returned for it.
            num_shares: As for ``join``.
            objective: Knows their means before the update.
        """
        if not self.num_steps:
            return
        found = objective.means_before
        assert found is not None, "the configuration lets only rules replay that can"
        batch_index, means = found
        # a rank without signal has computed a sample of weight 0
        is_new = (batch_index >= batch.num_replayed) & (batch.weights[batch_index] > 0)
        kept = [kept for kept in self.kept if kept.step > step - self.num_steps]
        if is_new.any():
            samples = select(batch, batch_index[is_new])
            samples = replace(
                samples,
                weights=samples.weights * np.float32(num_shares),
                behavior_means=means.cpu().numpy()[is_new],
            )
            kept.append(KeptStep(step=step, samples=samples))
        self.kept = tuple(kept)
