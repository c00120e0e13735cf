"""How state, noisy actions and denoise times enter the action expert: pi0's way and pi0.5's.

pi0 puts a state token before the actions and mixes the time into the action tokens. pi0.5 has no state
token; the time conditions every norm of the expert (openpi models/pi0.py, models/gemma.py).

Shape legend: B samples, S denoise steps, H actions per chunk, A action dims, W expert width.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Protocol, Self

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import Tensor, nn

from pi0.model.gemma import AdaptiveNorm, Modulation, silu


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeCondition:
    """What the times of S packed denoise steps contribute.

    Attributes:
        embedding: Float32 [S, W] or [B, S, W]. pi0: added inside the MLP of the action tokens; pi0.5:
            c, from which every norm's modulation is computed.
        shift: Float32 [W], what the unconditional branch of guidance adds to pi0's state token; None for
            nothing. pi0.5 has it in ``embedding``.
        modulations: pi0.5, of every norm of the expert in the order of use, where they were computed
            beforehand; empty where every layer computes its own.
    """

    embedding: Tensor
    shift: Tensor | None = None
    modulations: tuple[Modulation, ...] = ()

    def modulation(self, norm: Any, number: int) -> Modulation | None:
        """Return what the times make of the expert's norm of this number; None for Gemma's own norm."""
        if not isinstance(norm, AdaptiveNorm):
            return None
        return self.modulations[number] if self.modulations else norm.modulation(self.embedding)


class Suffix(Protocol):
    """What differs between pi0 and pi0.5 in the suffix; ``core`` is the network's module tree."""

    num_leading: int
    """Tokens before the actions."""

    def condition(self, core: Any, times: Tensor, unconditional: Tensor | None) -> TimeCondition:
        """Return what float32 ``times``, [S] or [B, S], contribute; see ``TimeCondition``."""
        ...

    def tokens(self, core: Any, state: Tensor, x: Tensor, condition: TimeCondition) -> Tensor:
        """Return the tokens, float32 [B, num_leading + S * H, W], of state [B, state_dim] and x [B, S, H, A]."""
        ...


class Pi0Suffix:
    """[state | actions of step 0 | actions of step 1 | ...], the time mixed into the actions."""

    num_leading = 1

    def condition(self, core: Any, times: Tensor, unconditional: Tensor | None) -> TimeCondition:
        """Return the times' part of the first layer of the action tokens' MLP."""
        mixer = core.embed_action_time.action_time_mlp_in
        waves = _waves(core, times)
        embedding = F.linear(waves, mixer.weight[:, waves.shape[-1] :], mixer.bias)
        return TimeCondition(embedding=embedding, shift=unconditional)

    def tokens(self, core: Any, state: Tensor, x: Tensor, condition: TimeCondition) -> Tensor:
        """Return state and action tokens."""
        embed = core.embed_action_time
        actions = embed.action_in_proj(x)
        mixed = F.linear(actions, embed.action_time_mlp_in.weight[:, : actions.shape[-1]])
        mixed = silu(mixed + condition.embedding[..., None, :])
        merged = embed.action_time_mlp_out(mixed).flatten(1, 2)
        token = embed.state_proj(state)
        if condition.shift is not None:
            token = token + condition.shift
        return torch.cat([token[:, None], merged], dim=1)


class Pi05Suffix:
    """[actions of step 0 | actions of step 1 | ...], the time in every norm."""

    num_leading = 0

    def condition(self, core: Any, times: Tensor, unconditional: Tensor | None) -> TimeCondition:
        """Return c = silu(time_mlp_out(silu(time_mlp_in(waves))))."""
        embed = core.embed_action_time
        c = silu(embed.time_mlp_out(silu(embed.time_mlp_in(_waves(core, times)))))
        return TimeCondition(embedding=c if unconditional is None else c + unconditional)

    def tokens(self, core: Any, state: Tensor, x: Tensor, condition: TimeCondition) -> Tensor:
        """Return action tokens; the state is in the prompt, or nowhere."""
        del state, condition
        return core.embed_action_time.action_in_proj(x).flatten(1, 2)


class Pi05Embedding(nn.Module):
    """pi0.5's projections beside the expert, under the names that openpi gives them."""

    def __init__(self, sinusoid_embeds: nn.Module, *, action_dim: int, width: int) -> None:
        """Build with torch's random initialization; ``sinusoid_embeds`` is transformers'."""
        super().__init__()
        self.sinusoid_embeds = sinusoid_embeds
        self.action_in_proj = nn.Linear(action_dim, width)
        self.time_mlp_in = nn.Linear(width, width)
        self.time_mlp_out = nn.Linear(width, width)


def make_grid(
    core: Any,
    suffix: Suffix,
    times: tuple[float, ...],
    unconditional: Tensor | None,
    device: torch.device,
) -> tuple[TimeCondition, ...]:
    """Return what each time of a denoise grid contributes, with the modulations of all norms.

    Args:
        core: The network's module tree.
        suffix: pi0's way or pi0.5's.
        times: From 1, noise, towards 0, action.
        unconditional: Float32 [W], what the unconditional branch adds; None for the conditional one.
        device: Of the network.
    """
    grid = torch.tensor(times, dtype=torch.float32, device=device)[:, None]
    conditions = (suffix.condition(core, time, unconditional) for time in grid)
    expert = core.model.dit
    return tuple(replace(c, modulations=_modulations(expert, c)) for c in conditions)


@dataclass(slots=True)
class TimeGrids:
    """What grids of denoise times contribute, kept for as long as no weight that they come from changes."""

    _kept: dict[object, tuple[TimeCondition, ...]] = field(default_factory=dict)
    _versions: tuple[int, ...] = ()

    def get(
        self, core: Any, key: object, make: Callable[[], tuple[TimeCondition, ...]]
    ) -> tuple[TimeCondition, ...]:
        """Return what was kept for ``key``, or make it; everything is forgotten once weights changed."""
        # torch counts how often a tensor was written to
        versions = tuple(parameter._version for parameter in _sources(core))  # noqa: SLF001
        if versions != self._versions:
            self._kept, self._versions = {}, versions
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def __deepcopy__(self, memo: object) -> Self:
        """Return an empty one: a copy's weights count their own changes."""
        return type(self)()


def _waves(core: Any, times: Tensor) -> Tensor:
    waves = core.embed_action_time.sinusoid_embeds(times.flatten().float())
    return waves.view(*times.shape, -1)


def _modulations(expert: Any, condition: TimeCondition) -> tuple[Modulation, ...]:
    """Return the modulations of all norms of the expert in the order of use; empty for pi0."""
    norms = [norm for norm in _norms(expert) if isinstance(norm, AdaptiveNorm)]
    return tuple(norm.modulation(condition.embedding) for norm in norms)


def _norms(expert: Any) -> Iterator[nn.Module]:
    for layer in expert.layers:
        yield from (layer.input_layernorm, layer.post_attention_layernorm)
    yield expert.norm


def _sources(core: Any) -> Iterator[nn.Parameter]:
    norms = (norm.parameters() for norm in _norms(core.model.dit))
    return chain(core.embed_action_time.parameters(), *norms)
