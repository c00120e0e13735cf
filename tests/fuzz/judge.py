"""What may become of an input: it is accepted for what it is, or refused in one line."""

import io
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from types import FrameType

from pi0.ript.scripts.exits import is_user_error, one_line

TIME_LIMIT_S = 20
MAX_LINE = 2000


class FindingError(AssertionError):
    """Something that must not happen."""


def judge(take: Callable[[], bool]) -> str:
    """Run ``take``, which returns whether it accepted; return ``accepted`` or ``refused``.

    Raises:
        FindingError: It hung, or an error of ours would have shown a traceback.
    """
    try:
        with _time_limit(), redirect_stdout(io.StringIO()):
            return "accepted" if take() else "refused"
    except SystemExit as ended:
        if ended.code not in (0, None):
            raise FindingError(f"ended with status {ended.code}") from ended
        return "accepted"
    except (ValueError, OSError) as error:
        if not is_user_error(error):
            raise FindingError(f"traceback: {type(error).__name__}: {error}") from error
        line = one_line(error)
        if not line or "\n" in line or len(line) > MAX_LINE:
            raise FindingError(f"{len(line)} characters: {line[:200]}") from error
        return "refused"
    except FindingError:
        raise
    except Exception as error:
        raise FindingError(f"traceback: {type(error).__name__}: {error}") from error


@contextmanager
def _time_limit() -> Iterator[None]:
    def fail(_number: int, _frame: FrameType | None) -> None:
        raise FindingError(f"hung for {TIME_LIMIT_S} s")

    earlier = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, earlier)
