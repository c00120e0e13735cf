"""Seeds derive from names, never from a global generator or from arithmetic on other seeds."""

import hashlib


def derive_seed(*path: int | str) -> int:
    """Return a 63-bit seed for a named draw of the run, e.g. ``derive_seed(42, "rollout", step, group, k)``."""
    digest = hashlib.sha256("/".join(str(part) for part in path).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def noise_seed(episode_seed: int, policy_step: int) -> int:
    """Return the seed of the noise that the policy draws an action chunk with; policy steps count from 0."""
    return derive_seed(episode_seed, policy_step)


# numpy's seeds, in halves: no draw of fixture poses that a policy is measured on is one that it has practiced on.
_HALF = 2**31


def practice_fixtures(*path: int | str) -> int:
    """Return the seed, in [0, 2**31), of the fixture poses of a named situation to learn in."""
    return derive_seed("fixtures", "practice", *path) % _HALF


def held_out_fixtures(*path: int | str) -> int:
    """Return the seed, in [2**31, 2**32), of the fixture poses of a named episode to be measured on."""
    return _HALF + derive_seed("fixtures", "held-out", *path) % _HALF
