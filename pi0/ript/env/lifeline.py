"""A process that cannot outlive another one, even while it is stopped or deep in foreign code."""

import fcntl
import os
import signal


class Lifeline:
    """A pipe whose far end a child inherits; when the near end closes, the kernel kills the child.

    The kernel closes the near end when the owner ends, however it ends. Unlike a parent-death signal
    it does not fire when only the thread ends that started the child.

    Example: ``line = Lifeline()``, start the child with ``pass_fds=(line.far_end,)``, then
    ``line.tie(child.pid)``.
    """

    def __init__(self) -> None:
        """Open the pipe."""
        self.far_end, self._near_end = os.pipe()

    def tie(self, pid: int) -> None:
        """Bind the child that has inherited the far end."""
        fcntl.fcntl(self.far_end, fcntl.F_SETOWN, pid)
        fcntl.fcntl(self.far_end, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(self.far_end, fcntl.F_GETFL)
        fcntl.fcntl(self.far_end, fcntl.F_SETFL, flags | os.O_ASYNC)
        os.close(self.far_end)  # from here on the child alone holds it

    def cut(self) -> None:
        """End the child; safe to call twice."""
        if self._near_end >= 0:
            os.close(self._near_end)
            self._near_end = -1  # the number may soon be another file's
