"""Flow matching on actions that were executed: the common part of ``nft``, ``cfg`` and ``bc``.

A sample's executed action chunk a and noise e give the point ``x_t = t * e + (1 - t) * a``, whose velocity
should be ``u = e - a``. Times are drawn from the denoise grid: the policy is never evaluated at others.

Shape legend: b samples, R draws per sample, H actions per chunk, A action dims, h executed actions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pi0.ript.algo.objective import Indices, Model, ReplayTotals, Targets, require_finite
from pi0.ript.algo.reference import Reference
from pi0.ript.config.algo import AlgoConfig
from pi0.ript.seeding import derive_seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Where velocities are compared.

    Attributes:
        x: Float32 [b, R, H, A].
        times: Float32 [b, R].
        target: Float32 [b, R, H, A], noise minus action.
    """

    x: Tensor
    times: Tensor
    target: Tensor


def draw_points(
    actions: Tensor, global_index: Indices, grid: Tensor, num_draws: int, *seed_path: int | str
) -> Points:
    """Return R points per sample; a sample's draws depend on the seed path and its global index only.

    Args:
        actions: Float32 [b, H, A], the action chunks of the samples.
        global_index: Int64 [b], of the samples.
        grid: Float32 [S], denoise times.
        num_draws: R.
        seed_path: Names the draws.
    """
    shape = (num_draws, *actions.shape[1:])
    noise = np.empty((len(global_index), *shape), dtype=np.float32)
    steps = np.empty((len(global_index), num_draws), dtype=np.int64)
    for n, sample in enumerate(global_index):
        rng = np.random.Generator(np.random.Philox(derive_seed(*seed_path, "points", int(sample))))
        rng.standard_normal(out=noise[n], dtype=np.float32)
        steps[n] = rng.integers(len(grid), size=num_draws)
    device = actions.device
    clean = actions[:, None]
    drawn = torch.as_tensor(noise).to(device)
    times = grid[torch.as_tensor(steps).to(grid.device)].to(device)
    t = times[..., None, None]
    return Points(x=t * drawn + (1.0 - t) * clean, times=times, target=drawn - clean)


def squared_error(velocity: Tensor, target: Tensor, is_executed: Tensor | None = None) -> Tensor:
    """Return the squared error of every draw over its h x 7 entries.

    Args:
        velocity: [b, R, h, 7].
        target: [b, R, H, A] or [b, R, h, 7]; the first h x 7 entries are compared.
        is_executed: Bool [b, h], actions that count, each as much as where all h do; None for all.

    Returns:
        [b, R].
    """
    num_actions, num_dims = velocity.shape[-2:]
    error = (velocity - target[..., :num_actions, :num_dims]).square()
    if is_executed is not None:
        error = error * is_executed[:, None, :, None]
    return error.mean(dim=(-2, -1))


class FlowMatching:
    """What the three objectives share: points, velocities, the reference policy. No likelihood."""

    def __init__(self, algo: AlgoConfig) -> None:
        self._algo = algo
        self._reference = Reference(algo.reference_weight)

    @property
    def kl_stop(self) -> float | None:
        """Return None: there is no likelihood to stop by."""
        return None

    def begin(
        self, model: Model, targets: Targets, micro_batches: Sequence[Indices], seed: int
    ) -> ReplayTotals | None:
        """Compute the velocities of the reference policy at every point of every pass."""
        self._model, self._targets, self._seed = model, targets, seed
        self._by_reference = [
            self._reference.predict(
                model, micro_batches, lambda p, e=epoch: self.velocity_at(p, e)[0]
            )
            for epoch in range(self._algo.num_epochs)
        ]

    def finish(self) -> None:
        """Nothing has to be remembered."""

    @property
    def means_before(self) -> tuple[Indices, Tensor] | None:
        """Return None: without likelihood older samples cannot be weighed."""
        return None

    def state(self) -> dict[str, Tensor]:
        """Return the reference policy."""
        return self._reference.state()

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Continue from a stored state."""
        self._reference.load_state(tensors)

    def velocity_at(
        self, own_index: Indices, epoch: int, *, is_conditional: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Return velocities [b, R, h, 7] at the samples' points of a pass, and targets [b, R, H, A]."""
        model = self._model
        actions = model.chains[torch.as_tensor(own_index).to(model.chains.device), -1]
        global_index, draws = self._targets.global_index[own_index], self._algo.draws_per_row
        points = draw_points(actions, global_index, model.times, draws, self._seed, epoch)
        velocity = model.velocity(own_index, points.x, points.times, is_conditional=is_conditional)
        require_finite(velocity, "velocities of the current policy")
        return velocity, points.target

    def is_executed(self, velocity: Tensor, own_index: Indices) -> Tensor:
        """Return which actions of some samples were executed, bool [b, h]; nothing else is imitated."""
        return self._targets.is_executed(own_index, velocity.shape[-2])

    def penalty(self, velocity: Tensor, own_index: Indices, epoch: int) -> Tensor | float:
        """Return the weighted distance from the reference policy, [b, R]; 0 if switched off."""
        reference = self._by_reference[epoch]
        if reference is None:
            return 0.0
        return self._reference.weight * squared_error(velocity, reference[own_index])
