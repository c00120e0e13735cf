"""How long a command may take before its worker counts as hung, learned from what commands take.

The limit is ``FACTOR`` times what the command would take at the slowest pace seen so far, at least
``LEAST_S`` and never more than ``env.timeout_s``, which also holds as long as a kind of work has not
been seen. Where a machine has become slower than that, patience grows: every hang in a row doubles the
limit, and what then succeeds is the slowest pace from there on.
"""

from collections.abc import Mapping

from pi0.ript.env.commands import Work

FACTOR = 10.0  # a machine that is shared slows down by less
LEAST_S = 10.0


class TimeLimits:
    """The slowest pace of every kind of work.

    Example: a chunk of 20 steps, the slowest of which took 0.1 s, may take 20 s.
    """

    def __init__(self, timeout_s: float) -> None:
        """Take the upper bound, in seconds."""
        self._timeout_s = timeout_s
        self._slowest_s: dict[Work, float] = {}
        self._hangs_in_a_row = 0

    def learn(self, work: Work, seconds: float) -> None:
        """Note what a unit of work took."""
        self._slowest_s[work] = max(seconds, self._slowest_s.get(work, 0.0))

    def learn_hang(self) -> None:
        """Note that a command was given up."""
        self._hangs_in_a_row += 1

    def learn_reply(self, timings: Mapping[str, float], num_steps: int) -> None:
        """Note what a reply says that its command took."""
        self._hangs_in_a_row = 0
        if "build_s" in timings:
            self.learn("build", timings["build_s"])
        drawing = timings.get("render_s", 0.0)
        if "restore_s" in timings:
            self.learn("restore", timings["restore_s"] + drawing)
        elif "physics_s" in timings and num_steps:
            self.learn("step", (timings["physics_s"] + drawing) / num_steps)
        if "film_s" in timings and num_steps:
            # The last step's picture is most often that of the policy's look.
            self.learn("frame", timings["film_s"] / max(1, num_steps - 1))

    def limit_s(self, work: Mapping[Work, int]) -> float:
        """Return the seconds that a command made of so many units of work may take."""
        if not all(kind in self._slowest_s for kind in work):
            return self._timeout_s
        expected = sum(units * self._slowest_s[kind] for kind, units in work.items())
        patience = 2.0**self._hangs_in_a_row
        return min(self._timeout_s, patience * max(LEAST_S, FACTOR * expected))
