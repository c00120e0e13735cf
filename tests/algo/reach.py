"""A small world in which every objective can be watched learning: reach a point, succeed or not.

A goal lies on a circle; the policy is given it and returns one 2-D action, drawn by denoising with a small
network. It was cloned from demonstrations that miss to one side, so that about a third of its noisy actions
land within reach of the goal.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from pi0.ript.algo.advantages import leave_one_out
from pi0.ript.algo.objective import Indices, Objective, Targets
from pi0.sampler import Schedule, draw_chain, make_schedule, transition_means

ROLLOUT, EVALUATION = make_schedule(4, 0.5), make_schedule(4, 0.0)
REACH = 0.3
MISS = 0.32
DEVIATION = 0.1
GROUPS, ROLLOUTS = 16, 8
Reward = Callable[[Tensor, torch.Generator], Tensor]


class ReachPolicy(nn.Module):
    """Velocity of a noisy action given goal and time."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 64), nn.Linear(64, 64), nn.Linear(64, 2)])
        with torch.no_grad():
            for parameter in self.parameters():
                bound = parameter.shape[-1] ** -0.5
                parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, goal: Tensor, x: Tensor, times: Tensor) -> Tensor:
        """Return velocities; goal, x [..., 2] and times [...]."""
        hidden = torch.cat([goal, x, times[..., None]], dim=-1)
        for layer in list(self.layers)[:-1]:
            hidden = torch.nn.functional.silu(layer(hidden))
        return self.layers[-1](hidden)


class ReachModel:
    """The samples of one update; one executed action of two dimensions. See ``Model``."""

    def __init__(
        self,
        policy: ReachPolicy,
        goals: Tensor,
        chains: Tensor,
        behavior_weights: Sequence[Tensor] | None = None,
    ) -> None:
        self.behavior_weights = behavior_weights
        self._policy = policy
        self._goals = goals
        self._shift = torch.zeros(())
        self.chains = chains
        self.stds = torch.tensor(ROLLOUT.stds)
        self.times = torch.tensor(ROLLOUT.times)

    def means(self, own_index: Indices) -> Tensor:
        x = self.chains[own_index][:, :-1]
        times = self.times.expand(len(own_index), -1)
        return transition_means(x, self.velocity(own_index, x, times, is_conditional=True), ROLLOUT)

    def velocity(
        self, own_index: Indices, x: Tensor, times: Tensor, *, is_conditional: bool
    ) -> Tensor:
        assert is_conditional
        goals = self._goals[own_index][:, None].expand(-1, x.shape[1], -1)
        return self._policy(goals, x[:, :, 0], times)[:, :, None]

    def parameters(self) -> list[nn.Parameter]:
        return list(self._policy.parameters())

    @contextmanager
    def holding(self, weights: Sequence[Tensor]) -> Iterator[None]:
        own = [parameter.data for parameter in self.parameters()]
        for parameter, other in zip(self.parameters(), weights, strict=True):
            parameter.data = other
        yield
        for parameter, data in zip(self.parameters(), own, strict=True):
            parameter.data = data


def draw_goals(count: int, generator: torch.Generator) -> Tensor:
    angle = torch.rand(count, generator=generator) * 2 * torch.pi
    return torch.stack([angle.cos(), angle.sin()], dim=-1)


@torch.no_grad()
def act(
    policy: ReachPolicy, goals: Tensor, generator: torch.Generator, schedule: Schedule = ROLLOUT
) -> Tensor:
    """Return chains [n, 5, 1, 2]."""
    noise = torch.randn(len(goals), 5, 1, 2, generator=generator)

    def velocity(x: Tensor, step: int) -> Tensor:
        times = torch.full((len(x),), schedule.times[step])
        return policy(goals, x[:, 0], times)[:, None]

    return draw_chain(velocity, noise, torch.ones(1, 2, dtype=torch.bool), schedule)


def successes(chains: Tensor, goals: Tensor) -> Tensor:
    return ((chains[:, -1, 0] - goals).norm(dim=-1) < REACH).double()


def clone(seed: int) -> tuple[ReachPolicy, torch.Generator]:
    """Return a policy cloned from demonstrations that miss, and the generator to go on with."""
    generator = torch.Generator().manual_seed(seed)
    policy = ReachPolicy(generator)
    adam = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(400):
        goals = draw_goals(256, generator)
        clean = goals + torch.tensor([MISS, 0.0])
        clean = clean + DEVIATION * torch.randn(256, 2, generator=generator)
        noise = torch.randn(256, 2, generator=generator)
        times = torch.rand(256, generator=generator)
        x = times[:, None] * noise + (1 - times[:, None]) * clean
        loss = (policy(goals, x, times) - (noise - clean)).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return policy, generator


def success_rate(policy: ReachPolicy, seed: int = 123) -> float:
    """Return success without injected noise over 2000 fresh goals."""
    generator = torch.Generator().manual_seed(seed)
    goals = draw_goals(2000, generator)
    return float(successes(act(policy, goals, generator, EVALUATION), goals).mean())


def train(
    policy: ReachPolicy,
    objective: Objective,
    generator: torch.Generator,
    *,
    updates: int,
    lr: float,
    alter: Reward | None = None,
    is_one_behind: bool = False,
) -> None:
    """Train in place: two passes over 16 groups of 8 per update.

    Args:
        policy: What is trained.
        objective: The rule.
        generator: Of goals and noise.
        updates: How many.
        lr: Of Adam.
        alter: Replaces the rewards [G, K] that are learned from: a negative control.
        is_one_behind: Whether the weights before the last update act.
    """
    before, actor = deepcopy(policy), policy
    adam = torch.optim.Adam(policy.parameters(), lr=lr)
    for update in range(updates):
        goals = draw_goals(GROUPS, generator).repeat_interleave(ROLLOUTS, dim=0)
        if is_one_behind:
            actor, before = before, deepcopy(policy)
        chains = act(actor, goals, generator)
        rewards = successes(chains, goals).view(GROUPS, ROLLOUTS)
        if alter is not None:
            rewards = alter(rewards, generator)
        advantages = leave_one_out(rewards).flatten().float()
        chosen = advantages != 0
        if not bool(chosen.any()):
            continue
        count = int(chosen.sum())
        targets = Targets(
            batch_index=np.arange(count),
            advantages=advantages[chosen],
            weights=torch.full((count,), 1 / count),
            is_scored=torch.ones(count, 4, dtype=torch.bool),
            num_executed=torch.ones(count, dtype=torch.int64),
            global_index=np.arange(count),
        )
        own_index = np.arange(count)
        behavior_weights = [p.detach() for p in actor.parameters()] if is_one_behind else None
        model = ReachModel(policy, goals[chosen], chains[chosen], behavior_weights)
        objective.begin(model, targets, [own_index], update)
        for epoch in range(2):
            loss = (targets.weights * objective.terms(own_index, epoch).loss).sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
        objective.finish()
