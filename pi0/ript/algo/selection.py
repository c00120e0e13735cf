"""Dynamic rejection: which groups of rollouts carry a learning signal."""

from collections.abc import Iterable


def is_mixed(rewards: Iterable[float]) -> bool:
    """Return whether the K rollouts of a group ended differently.

    A uniform group has advantage 0 everywhere, so rejecting it changes no gradient, only the cost.
    """
    return len(set(rewards)) > 1
