"""Which groups of rollouts carry a learning signal, and which initial states are worth trying."""

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np

from pi0.ript.config.schema import AlgoConfig
from pi0.ript.seeding import derive_seed

_PREFIX = "skips_left_"
_SUCCESSES, _FAILURES, _DRAWS = "state_successes_", "state_failures_", "state_draws"
FADE = 0.8
"""What a group counts for once the next one of the same state has come: the policy has changed since."""
FLOOR = 0.1
"""Least chance of a state that is dealt to be tried, so that none is forgotten."""

Counters = Mapping[str, int | float]


def is_mixed(rewards: Iterable[float]) -> bool:
    """Return whether the K rollouts of a group ended differently.

    A uniform group has advantage 0 everywhere, so rejecting it changes no gradient, only the cost.
    """
    return len(set(rewards)) > 1


class StateSelection(Protocol):
    """Decides which of the initial states that are dealt are tried; see ``SolvedStates`` and ``InformativeStates``.

    States are known by ``InitialState.state_key``, a hash that is the same in every process and run and
    wherever the fixtures stand.
    """

    def skips(self, key: str) -> bool:
        """Return whether the state is left out this time."""
        ...

    def add(self, key: str, rewards: Iterable[float]) -> None:
        """Take note of a group of the state."""
        ...

    def counters(self) -> Counters:
        """Return the state as plain numbers for a checkpoint."""
        ...

    def restore(self, counters: Counters) -> None:
        """Go back to a state that ``counters`` returned; other counters are left alone."""
        ...

    def metrics(self, keys: Iterable[str], group_size: int) -> dict[str, float]:
        """Return what is known of the candidates, for ``metrics.jsonl``."""
        ...


def state_selection(algo: AlgoConfig, seed: int) -> "StateSelection":
    """Return what the configuration asks for, at the beginning of a run."""
    if algo.state_sampling == "informative":
        return InformativeStates(seed)
    return SolvedStates(algo.rollout_skip_threshold)


class SolvedStates:
    """Leaves out initial states that every rollout solved, for a while, then tries them again.

    Args:
        num_skips: How often a solved state is left out before it is tried again; 0 never leaves one out.
        skips_left: A stored state of this object.
    """

    def __init__(self, num_skips: int, skips_left: Mapping[str, int] | None = None) -> None:
        self._num_skips = num_skips
        self._skips_left = dict(skips_left or {})

    def skips(self, key: str) -> bool:
        """Return whether the state is left out this time."""
        left = self._skips_left.get(key, 0)
        if left == 0:
            return False
        if left == 1:
            del self._skips_left[key]
        else:
            self._skips_left[key] = left - 1
        return True

    def add(self, key: str, rewards: Iterable[float]) -> None:
        """Take note of a group of the state."""
        if self._num_skips and all(reward == 1.0 for reward in rewards):
            self._skips_left[key] = self._num_skips

    def counters(self) -> dict[str, int | float]:
        """Return how often every state is still left out."""
        return {_PREFIX + key: left for key, left in self._skips_left.items()}

    def restore(self, counters: Counters) -> None:
        """Go back to a state that ``counters`` returned."""
        self._skips_left = {key: int(left) for key, left in _with_prefix(counters, _PREFIX)}

    def metrics(self, keys: Iterable[str], group_size: int) -> dict[str, float]:
        """Return nothing: what is left out shows in the groups tried."""
        return {}


class InformativeStates:
    """Tries initial states whose rollouts will probably differ, by the posterior of their success.

    A state that is dealt is tried with chance max(``FLOOR``, 4 p (1 - p)), with p drawn from Beta(1 + successes,
    1 + failures) of its groups so far (Thompson sampling), older groups counting less. The expected squared
    advantage of a group is proportional to p (1 - p). Which states are practiced changes, not the gradient of a
    state.

    Args:
        seed: Run seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._num_draws = 0
        self._successes: dict[str, float] = {}
        self._failures: dict[str, float] = {}

    def skips(self, key: str) -> bool:
        """Return whether the state is left out this time; every question draws anew."""
        generator = np.random.default_rng(
            derive_seed(self._seed, "state_selection", self._num_draws)
        )
        self._num_draws += 1
        p = generator.beta(1.0 + self._successes.get(key, 0.0), 1.0 + self._failures.get(key, 0.0))
        return bool(generator.random() >= max(FLOOR, 4.0 * p * (1.0 - p)))

    def add(self, key: str, rewards: Iterable[float]) -> None:
        """Count a group of the state."""
        rewards = list(rewards)
        num_successes = sum(reward == 1.0 for reward in rewards)
        for counts, number in (
            (self._successes, num_successes),
            (self._failures, len(rewards) - num_successes),
        ):
            counts[key] = FADE * counts.get(key, 0.0) + number

    def counters(self) -> dict[str, int | float]:
        """Return the counts of every state and how many draws were made."""
        successes = {_SUCCESSES + key: count for key, count in self._successes.items()}
        failures = {_FAILURES + key: count for key, count in self._failures.items()}
        return {**successes, **failures, _DRAWS: self._num_draws}

    def restore(self, counters: Counters) -> None:
        """Go back to a state that ``counters`` returned."""
        self._successes = dict(_with_prefix(counters, _SUCCESSES))
        self._failures = dict(_with_prefix(counters, _FAILURES))
        self._num_draws = int(counters.get(_DRAWS, 0))

    def metrics(self, keys: Iterable[str], group_size: int) -> dict[str, float]:
        """Return the share of candidates ever tried, and the expected share of uniform groups among them.

        A group of K is uniform with p^K + (1 - p)^K; its mean over Beta(a, b) is
        prod (a + i) / (a + b + i) + prod (b + i) / (a + b + i), i from 0 to K - 1.
        """
        keys = list(keys)
        tried = [key for key in keys if key in self._successes]
        uniform = [self._chance_of_uniform(key, group_size) for key in tried]
        return {
            "rollout/state_coverage": len(tried) / len(keys),
            "rollout/expected_rejection": float(np.mean(uniform)) if uniform else 1.0,
        }

    def _chance_of_uniform(self, key: str, group_size: int) -> float:
        a, b = 1.0 + self._successes[key], 1.0 + self._failures[key]
        more = np.arange(group_size)
        return float(np.prod((a + more) / (a + b + more)) + np.prod((b + more) / (a + b + more)))


def _with_prefix(counters: Counters, prefix: str) -> Iterable[tuple[str, float]]:
    """Return the counters whose names begin so, without that beginning."""
    return [
        (key.removeprefix(prefix), value)
        for key, value in counters.items()
        if key.startswith(prefix)
    ]
