"""How the threads of a program wait for each other; decided before anything loads torch."""

import os

VARIABLE = "OMP_WAIT_POLICY"


def sleep_while_waiting() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says how they should.

    By default they spin. Where other programs use the same cores, a thread that spins takes the time of
    the one it waits for, and an update lasts many times longer. The library reads the variable once, when it
    is loaded.
    """
    os.environ.setdefault(VARIABLE, "passive")
