"""Figures as TensorBoard event files."""

from collections.abc import Mapping
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter


class TensorBoardReporter:
    """Writes numbers as scalars and words as text."""

    def __init__(self, folder: Path, *, last_step: int = 0) -> None:
        """Open ``folder``; viewers hide what an earlier run logged after ``last_step``."""
        self._writer = SummaryWriter(str(folder), purge_step=last_step + 1)

    def log(self, step: int, metrics: Mapping[str, float | str]) -> None:
        """Write the figures of a step."""
        for name, value in metrics.items():
            if isinstance(value, str):
                self._writer.add_text(name, value, step)
            else:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()
