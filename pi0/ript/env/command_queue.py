"""The commands that a worker has under way, and since when it owes the next answer."""

import time
from collections import deque
from collections.abc import Iterable

from pi0.ript.env.commands import START, Command
from pi0.ript.env.time_limits import TimeLimits


class CommandQueue:
    """Commands in the order of their answers. The clock of the oldest one runs.

    Example: ``queue.add(command)``; once ``queue.oldest`` is answered, ``queue.next()``.
    """

    def __init__(
        self,
        limits: TimeLimits,
        commands: Iterable[Command] = (),
        *,
        arrival_s: float | None = None,
    ) -> None:
        """Start the clock.

        Args:
            limits: How long a command may take once it is the oldest.
            commands: What is under way from the beginning.
            arrival_s: Seconds that commands may wait for a worker to arrive; None for one that is
                there.
        """
        self._limits = limits
        self._commands = deque(commands)
        self._arrival_s = arrival_s
        self._began = time.monotonic()

    def __len__(self) -> int:
        return len(self._commands)

    @property
    def oldest(self) -> Command:
        """Return the command that is answered next; there must be one."""
        return self._commands[0]

    @property
    def places(self) -> list[int]:
        """Return the places that have a command under way, in order."""
        return [command.place for command in self._commands if command is not START]

    @property
    def began(self) -> float:
        """Return the monotonic time at which the clock was started last."""
        return self._began

    @property
    def silent_s(self) -> float:
        """Return for how long the clock has been running."""
        return time.monotonic() - self._began

    @property
    def limit_s(self) -> float:
        """Return the seconds that the oldest command may take, or wait for its worker."""
        if self._arrival_s is not None:
            return self._arrival_s
        return self._limits.limit_s(self.oldest.work)

    @property
    def deadline(self) -> float:
        """Return the monotonic time at which the oldest command takes too long."""
        return self._began + self.limit_s

    @property
    def is_overdue(self) -> bool:
        """Return whether a slot waits and the oldest command takes too long."""
        return bool(self.places) and time.monotonic() >= self.deadline

    def add(self, command: Command) -> None:
        """Note what the worker is asked after all that is under way."""
        if not self._commands:
            self._began = time.monotonic()
        self._commands.append(command)

    def next(self) -> None:
        """Note that the oldest command has been answered."""
        self._commands.popleft()
        self._began = time.monotonic()

    def arrive(self) -> None:
        """Note that the worker is there; the oldest command has its whole time from here on."""
        self._arrival_s = None
        self._began = time.monotonic()
