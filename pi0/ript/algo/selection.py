"""Which groups of rollouts carry a learning signal, and which initial states are worth trying."""

from collections.abc import Iterable, Mapping

_PREFIX = "skips_left_"


def is_mixed(rewards: Iterable[float]) -> bool:
    """Return whether the K rollouts of a group ended differently.

    A uniform group has advantage 0 everywhere, so rejecting it changes no gradient, only the cost.
    """
    return len(set(rewards)) > 1


class SolvedStates:
    """Leaves out initial states that every rollout solved, for a while, then tries them again.

    States are known by ``InitialState.state_key``, a hash that is the same in every process and run and
    wherever the fixtures stand.

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

    @property
    def skips_left(self) -> Mapping[str, int]:
        """Return how often every state is still left out, as of now; may be set back to an earlier one."""
        return dict(self._skips_left)

    @skips_left.setter
    def skips_left(self, earlier: Mapping[str, int]) -> None:
        self._skips_left = dict(earlier)

    def counters(self) -> dict[str, int]:
        """Return the state as plain numbers for a checkpoint."""
        return {_PREFIX + key: left for key, left in self._skips_left.items()}

    @classmethod
    def restored(cls, num_skips: int, counters: Mapping[str, int | float]) -> "SolvedStates":
        """Return the object stored in a checkpoint."""
        left = {
            k.removeprefix(_PREFIX): int(v) for k, v in counters.items() if k.startswith(_PREFIX)
        }
        return cls(num_skips, left)
