"""How a program ends.

0 done, 1 done but not all is well (it says what), 2 the user can fix it (one line), 130 Ctrl-C, 143 SIGTERM.
"""

import dis
import os
import signal
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NoReturn

from pi0.ript.train.signals import Interruption, stop_signals

VARIABLE = "OMP_WAIT_POLICY"

USER_ERROR = 2
TRACEBACK_VARIABLE = "RIPT_TRACEBACK"

Main = Callable[[Sequence[str]], int | None]


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says how they should.

    By default they spin. Where other programs use the same cores, a thread that spins takes the time of
    the one it waits for, and an update lasts many times longer. The library reads the variable once, when it
    is loaded.
    """
    os.environ.setdefault(VARIABLE, "passive")


def run_main(main: Main, argv: Sequence[str] | None = None) -> NoReturn:
    """Run ``main`` on the command line and leave with the right status.

    A wrong setting or file (``ValueError`` raised by our own code, ``OSError``) becomes one line on stderr
    and status 2. Anything else is a bug and keeps its traceback. On SIGTERM and Ctrl-C every ``finally``
    and ``with`` block runs before the process ends; a second signal ends it at once. ``RIPT_TRACEBACK=1``
    shows tracebacks of user errors too.
    """
    sleep_while_waiting()
    sys.exit(_run(main, sys.argv[1:] if argv is None else argv))


def _run(main: Main, argv: Sequence[str]) -> int:
    with stop_signals():
        try:
            return main(argv) or 0
        except Interruption as stop:
            return _say(str(stop), stop.status)
        except BrokenPipeError:
            # The reader of our output has gone, e.g. "--print_config | head"; the interpreter's own
            # flush of stdout at exit would complain once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        except (ValueError, OSError) as error:
            if os.environ.get(TRACEBACK_VARIABLE) or not is_user_error(error):
                raise
            return _say(one_line(error), USER_ERROR)


def is_user_error(error: ValueError | OSError) -> bool:
    """Return whether the user can mend it: files and disks, or a check written in this package.

    A ``ValueError`` from another library or a built-in means that we called it wrongly.
    """
    if isinstance(error, OSError):
        return True
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and _is_ours(trace) and _is_raise_statement(trace)


def _is_ours(trace: TracebackType) -> bool:
    package = trace.tb_frame.f_globals["__name__"].partition(".")[0]
    return package in ("__main__", "pi0")


def _is_raise_statement(trace: TracebackType) -> bool:
    # Code written in C has no frame: an error of "min([])" seems to come from the line calling it.
    code = trace.tb_frame.f_code.co_code
    return code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def one_line(error: BaseException) -> str:
    """Return what is wrong on one line."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        text = f"{error.strerror}: {error.filename}"
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def _say(message: str, status: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return status
