"""Progress while episodes come in: a live bar on a terminal, plain lines elsewhere."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from pi0.ript.interfaces import Progress as ProgressDisplay
from pi0.ript.types import Episode

logger = logging.getLogger(__name__)

LINE_EVERY_S = 30.0
_FORMAT = "%(asctime)s %(levelname)s %(message)s"

OnEpisode = Callable[[Episode], None]


class Tally:
    """Counts episodes since ``start``: successes, failures and crashes, and at which rate."""

    def __init__(self, expected: int, start: float, run_left_s: float | None = None) -> None:
        self.expected = expected
        self.done = 0
        self.successes = 0
        self.crashes = 0
        self._num_steps = 0
        self._start = start
        self._run_left_s = run_left_s  # when the stage began

    def add(self, episode: Episode) -> None:
        """Count an episode; a crashed one is neither success nor failure."""
        self.done += 1
        self.successes += episode.outcome == "success"
        self.crashes += episode.outcome == "crashed"
        self._num_steps += episode.num_steps

    def line(self, now: float) -> str:
        """Return e.g. ``40/64 episodes, 55.0% success, 1.2 episodes/s, 80 steps/s, 20 s left``."""
        return f"{self.done}/{max(self.expected, self.done)} episodes, {self.details(now)}"

    def details(self, now: float) -> str:
        """Return the line without its beginning; ``steps`` are control steps of the simulators."""
        elapsed = max(now - self._start, 1e-9)
        parts = [self.success()]
        if self.crashes:
            parts.append(f"{self.crashes} crashed")
        if self.done:
            rate = self.done / elapsed
            parts.append(f"{rate:.2g} episodes/s, {self._num_steps / elapsed:.0f} steps/s")
            if self.done < self.expected:
                parts.append(f"{duration((self.expected - self.done) / rate)} left")
        return ", ".join(parts + self.run_left(now))

    def success(self) -> str:
        """Return the share of successes among the episodes that did not crash."""
        finished = self.done - self.crashes
        return f"{self.successes / finished:.1%} success" if finished else "no result yet"

    def run_left(self, now: float) -> list[str]:
        """Return the time left of the whole run as a phrase; nothing where it is not known."""
        if self._run_left_s is None:
            return []
        left = max(0.0, self._run_left_s - (now - self._start))
        return [f"run {duration(left)} left"]


def duration(seconds: float) -> str:
    """Return e.g. ``20 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


class LineProgress:
    """Logs a line when a stage with episodes begins, now and then, and when it ends."""

    def __init__(
        self, *, every_s: float = LINE_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._clock = clock

    @contextmanager
    def stage(
        self, name: str, num_episodes: int, run_left_s: float | None = None
    ) -> Iterator[OnEpisode]:
        """Open a stage of about ``num_episodes``; one without episodes leaves no line."""
        start = last = self._clock()
        tally = Tally(num_episodes, start, run_left_s)

        def on_episode(episode: Episode) -> None:
            nonlocal last
            tally.add(episode)
            if self._clock() - last >= self._every_s:
                last = self._clock()
                logger.info("%s: %s", name, tally.line(last))

        if num_episodes == 0:
            yield on_episode
            return
        logger.info("%s: about %d episodes", name, num_episodes)
        yield on_episode
        now = self._clock()
        logger.info("%s: done in %.1f s: %s", name, now - start, tally.line(now))


class LiveProgress:
    """Shows a line per open stage, several at once; leaves one line per finished one with episodes.

    Stages may be opened by several threads: rollouts can go on while an update is under way.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._num_open = 0
        self._display: Progress | None = None

    @contextmanager
    def stage(
        self, name: str, num_episodes: int, run_left_s: float | None = None
    ) -> Iterator[OnEpisode]:
        """Open a stage of about ``num_episodes``; one without episodes shows how long it has taken."""
        start = time.monotonic()
        tally = Tally(num_episodes, start, run_left_s)
        display = self._open()
        bar = display.add_task(name, total=num_episodes or None, tally=tally)

        def on_episode(episode: Episode) -> None:
            tally.add(episode)
            total = max(tally.expected, tally.done)
            display.update(bar, completed=tally.done, total=total)

        try:
            yield on_episode
        finally:
            display.remove_task(bar)
            self._close(display)
        if num_episodes:
            now = time.monotonic()
            logger.info("%s: done in %.1f s: %s", name, now - start, tally.line(now))

    def _open(self) -> Progress:
        with self._lock:
            if self._display is None:
                self._display = Progress(
                    TextColumn("{task.description}"),
                    BarColumn(bar_width=16),
                    _CountColumn(),
                    TimeElapsedColumn(),
                    console=self._console,
                    transient=True,
                )
                self._display.start()
            self._num_open += 1
            return self._display

    def _close(self, display: Progress) -> None:
        with self._lock:
            self._num_open -= 1
            if self._num_open == 0:
                display.stop()
                self._display = None


class _CountColumn(ProgressColumn):
    """The tally of a stage at the moment of drawing, so that time left runs down."""

    def render(self, task: Task) -> Text:
        tally: Tally = task.fields["tally"]
        now = time.monotonic()
        return Text(tally.line(now) if tally.expected else ", ".join(tally.run_left(now)))


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
