"""Several reporters as one, and the one line of a step that a human reads."""

import logging
from collections.abc import Mapping, Sequence

from pi0.ript.interfaces import Reporter

logger = logging.getLogger(__name__)

# Name of the metric, word in the line, format.
_SHOWN = (
    ("rollout/success_rate", "success", "{:.1%}"),
    ("rollout/groups_accepted", "groups", "{:.0f}"),
    ("rollout/groups_tried", "of", "{:.0f}"),
    ("rollout/episode_length_steps", "length", "{:.0f}"),
    ("update/kl", "kl", "{:.4f}"),
    ("update/clip_fraction", "clipped", "{:.1%}"),
    ("update/grad_norm", "grad", "{:.2f}"),
    ("time/collect_s", "collect", "{:.1f} s"),
    ("time/update_s", "update", "{:.1f} s"),
)


class LineReporter:
    """Logs one INFO line per step."""

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Log the figures a human wants every step."""
        logger.info("step %d: %s", step, step_line(metrics))

    def close(self) -> None:
        """Nothing to release."""


class Reporters:
    """Passes every figure on to each of its reporters, in order."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Pass the figures of a step on."""
        for reporter in self._reporters:
            reporter.log(step, metrics)

    def close(self) -> None:
        """Close all of them."""
        for reporter in self._reporters:
            reporter.close()


def step_line(metrics: Mapping[str, float | str]) -> str:
    """Return e.g. ``success 57.0%, groups 8, of 11, kl 0.0031, collect 41.2 s``."""
    shown = [
        f"{word} {template.format(metrics[name])}"
        for name, word, template in _SHOWN
        if name in metrics and not isinstance(metrics[name], str)
    ]
    return ", ".join(shown)
