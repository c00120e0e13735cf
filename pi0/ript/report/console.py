"""Progress while episodes come in: a live bar on a terminal, plain lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pi0.ript.interfaces import Progress as ProgressDisplay
from pi0.ript.types import Episode

logger = logging.getLogger(__name__)

LINE_EVERY_S = 30.0
_FORMAT = "%(asctime)s %(levelname)s %(message)s"

OnEpisode = Callable[[Episode], None]


class Tally:
    """Counts what came in since ``start``: successes, failures and crashes, and at which rate."""

    def __init__(self, expected: int, start: float) -> None:
        self.expected = expected
        self.done = 0
        self.successes = 0
        self.crashes = 0
        self._start = start

    def add(self, episode: Episode) -> None:
        """Count an episode; a crashed one is neither success nor failure."""
        self.done += 1
        self.successes += episode.outcome == "success"
        self.crashes += episode.outcome == "crashed"

    def line(self, now: float) -> str:
        """Return e.g. ``40/64 episodes, 55.0% success, 1.2 episodes/s, 20 s left``."""
        elapsed = max(now - self._start, 1e-9)
        parts = [f"{self.done}/{max(self.expected, self.done)} episodes", self.success()]
        if self.crashes:
            parts.append(f"{self.crashes} crashed")
        if self.done:
            rate = self.done / elapsed
            parts.append(f"{rate:.2g} episodes/s")
            if self.done < self.expected:
                parts.append(f"{(self.expected - self.done) / rate:.0f} s left")
        return ", ".join(parts)

    def success(self) -> str:
        """Return the share of successes among the episodes that did not crash."""
        finished = self.done - self.crashes
        return f"{self.successes / finished:.1%} success" if finished else "no result yet"


class LineProgress:
    """Logs a line when a stage begins, now and then, and when it ends."""

    def __init__(
        self, *, every_s: float = LINE_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._clock = clock

    @contextmanager
    def stage(self, name: str, num_episodes: int) -> Iterator[OnEpisode]:
        """Open a stage of about ``num_episodes``."""
        start = last = self._clock()
        tally = Tally(num_episodes, start)

        def on_episode(episode: Episode) -> None:
            nonlocal last
            tally.add(episode)
            if self._clock() - last >= self._every_s:
                last = self._clock()
                logger.info("%s: %s", name, tally.line(last))

        logger.info("%s: about %d episodes", name, num_episodes)
        yield on_episode
        now = self._clock()
        logger.info("%s: done in %.1f s: %s", name, now - start, tally.line(now))


class LiveProgress:
    """Shows a bar with success so far and time left; leaves one line per finished stage."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def stage(self, name: str, num_episodes: int) -> Iterator[OnEpisode]:
        """Open a stage of about ``num_episodes``."""
        start = time.monotonic()
        tally = Tally(num_episodes, start)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[success]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            bar = progress.add_task(name, total=num_episodes, success=tally.success())

            def on_episode(episode: Episode) -> None:
                tally.add(episode)
                total = max(tally.expected, tally.done)
                progress.update(bar, completed=tally.done, total=total, success=tally.success())

            yield on_episode
        now = time.monotonic()
        logger.info("%s: done in %.1f s: %s", name, now - start, tally.line(now))


def make_progress(console: Console) -> ProgressDisplay:
    """Return a live display where ``console`` is a terminal, plain lines elsewhere."""
    return LiveProgress(console) if console.is_terminal else LineProgress()


def setup_logging(level: str, console: Console, *, rank: int = 0) -> None:
    """Send log lines of this process through ``console``, so that they do not tear a live display.

    Ranks other than 0 log warnings only, marked with their rank.
    """
    if console.is_terminal:
        handler: logging.Handler = RichHandler(
            console=console, show_path=False, rich_tracebacks=False, markup=False
        )
        text = "%(message)s"
    else:
        handler = logging.StreamHandler(console.file)
        text = _FORMAT
    handler.setFormatter(logging.Formatter(text if rank == 0 else f"rank {rank}: {text}"))
    root = logging.getLogger("pi0")
    root.handlers[:] = [handler]
    root.propagate = False
    root.setLevel(level if rank == 0 else "WARNING")
