"""Several reporters as one: the one line of a step that a human reads, and TensorBoard."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from pi0.ript.interfaces import Reporter

logger = logging.getLogger(__name__)

# A phrase, and the metrics that fill it.
_SHOWN = (
    ("success {:.1%}", ("rollout/success_rate",)),
    ("groups {:.0f} of {:.0f}", ("rollout/groups_accepted", "rollout/groups_tried")),
    ("length {:.0f}", ("rollout/episode_length_steps",)),
    ("kl {:.4f}", ("update/kl",)),
    ("clipped {:.1%}", ("update/clip_fraction",)),
    ("grad {:.2f}", ("update/grad_norm",)),
    ("collect {:.1f} s", ("time/collect_s",)),
    ("update {:.1f} s", ("time/update_s",)),
)


class TensorBoardReporter:
    """Writes numbers as scalars and words as text."""

    def __init__(self, folder: Path, *, last_step: int = 0) -> None:
        """Open ``folder``; viewers hide what an earlier run logged after ``last_step``."""
        self._writer = SummaryWriter(str(folder), purge_step=last_step + 1)

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Write the metrics of a step."""
        for name, value in metrics.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            else:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class LineReporter:
    """Logs one INFO line per step."""

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Log the metrics a human wants every step."""
        logger.info("step %d: %s", step, step_line(metrics))

    def close(self) -> None:
        """Nothing to release."""


class Reporters:
    """Passes all metrics on to each of its reporters, in order."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self._reporters = tuple(reporters)

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Pass the metrics of a step on."""
        for reporter in self._reporters:
            reporter.log(step, metrics)

    def close(self) -> None:
        """Close all of them."""
        for reporter in self._reporters:
            reporter.close()


def step_line(metrics: Mapping[str, float | str]) -> str:
    """Return e.g. ``success 57.0%, groups 8 of 11, kl 0.0031, collect 41.2 s``."""
    shown: list[str] = []
    for template, names in _SHOWN:
        values = [metrics[name] for name in names if name in metrics]
        if len(values) == len(names) and not any(isinstance(value, str) for value in values):
            shown.append(template.format(*values))
    return ", ".join(shown)
