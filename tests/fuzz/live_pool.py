"""A real pool with a real worker process, whose replies are changed on their way to the pool.

The pool receives our bytes from the socket instead of the worker's, and must refuse what is malformed.
"""

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
from hypothesis import strategies as st

from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pool.messages import HEADER, MAX_MESSAGE_BYTES, frame, unpack
from pi0.ript.faults.inject import send_as
from pi0.ript.faults.processes import MarkedProcess
from pi0.ript.interfaces import Reply
from tests.env.pools import process_pool
from tests.fuzz.inputs import EDITS, VALUES, damage
from tests.fuzz.judge import FindingError

LIGHT_WORKER = Path(__file__).parent / "light_worker"
STATE = make_initial_state("libero_goal", 7, 0, fixture_seed=0)
ACTIONS = np.full((3, 7), 0.125, np.float32)
NUM_FIELDS = 10
REPLACED = ("malformed", "died")

Change = tuple[str, Any]


class LivePool:
    """One slot in one worker; every attack is on the reply to an action chunk of three steps."""

    def __init__(self) -> None:
        """Start the worker."""
        self._path = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(LIGHT_WORKER), self._path])
        self._pool = process_pool(timeout_s=60.0)
        self._pool.wait_until_ready()

    def close(self) -> None:
        """End the worker."""
        self._pool.close()
        os.environ["PYTHONPATH"] = self._path

    def exchange(self, change: Callable[[bytes], bytes]) -> tuple[tuple[Any, ...], Reply]:
        """Return the fields of the worker's reply, and what the pool took the changed one for.

        Raises:
            FindingError: A worker that sent malformed bytes was kept, or has not ended.
        """
        self._restore()
        [pid] = self._pool.pids
        self._pool.execute(0, ACTIONS)
        sent = self._intercept()
        self._send(pid, change(sent))
        [reply] = self._pool.wait()
        # A good reply with more bytes behind it is believed, and the worker replaced all the same.
        was_replaced = self._pool.pids != (pid,)
        _require(was_replaced or reply.fault not in (*REPLACED, "raised"), f"{pid} was kept")
        _require(not (was_replaced and Path(f"/proc/{pid}").exists()), f"{pid} has not ended")
        return unpack(sent[HEADER.size :])[1:], reply

    def _restore(self) -> None:
        """Restore the slot; bytes that an earlier attack has left may cost one more worker."""
        for _ in range(2):
            self._pool.restore(0, STATE)
            [reply] = self._pool.wait()
            if not reply.fault:
                return
            if reply.fault not in REPLACED:
                break
        raise FindingError(f"a new worker does not work: {reply.fault}: {reply.error}")

    def _intercept(self) -> bytes:
        """Take the worker's reply off the pool's socket."""
        [worker] = self._pool._workers
        poll = select.poll()
        poll.register(worker.channel, select.POLLIN)
        assert poll.poll(60_000), "the worker does not reply"
        return os.read(worker.channel.fileno(), MAX_MESSAGE_BYTES)

    def _send(self, pid: int, data: bytes) -> None:
        """Write as if the worker did, which is killed after an incomplete message."""
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        if data:
            send_as(MarkedProcess(pid=pid, command=tuple(command), rss_bytes=0), data)
        if _is_incomplete(data):
            os.kill(pid, signal.SIGKILL)


def take_damaged(pool: LivePool, edits: list[tuple[str, float, bytes]]) -> bool:
    """Bytes that are not what the worker sent are noticed, also where they form a reply."""
    sent, reply = pool.exchange(lambda data: damage(data, edits))
    if reply.fault:
        _require(reply.fault in REPLACED, f"a fault of another kind: {reply.fault}")
        return False
    require_same(sent, reply)
    return True


def require_same(sent: tuple[Any, ...], reply: Reply) -> None:
    """Raise ``FindingError`` if a reply differs from the fields that the worker sent."""
    proprio, timings = sent[1], sent[6]
    observation = reply.observation
    _require(observation is not None and observation.proprio.tobytes() == proprio, "another pose")
    _require((reply.num_steps, reply.is_success) == (3, False), "another outcome")
    _require(dict(reply.timings) == dict(timings), "other seconds")


def take_forged(pool: LivePool, change: Change) -> bool:
    """A reply with the right checksum is accepted only if a worker could have sent it."""
    kind, what = change
    forge = with_field(*what) if kind == "field" else lambda packed: damage(packed, what)
    _, reply = pool.exchange(lambda data: frame(forge(data[HEADER.size :])))
    if reply.fault:
        _require(reply.observation is None or bool(reply.error), "a fault without a reason")
        return False
    _require(reply.num_steps == 3 or (reply.is_success and 0 <= reply.num_steps < 3), "steps")
    observation = reply.observation
    _require(observation is not None or reply.is_success, "no observation")
    if observation is not None:
        _require(bool(np.isfinite(observation.proprio).all()), "a pose that is not finite")
        _require(len(np.unique(observation.images)) == 1, "an image that the worker did not draw")
    return True


def with_field(number: int, value: object) -> Callable[[bytes], bytes]:
    """Return a function that replaces a field of a packed reply."""

    def forge(packed: bytes) -> bytes:
        values = list(unpack(packed))
        values[1 + number] = value
        try:
            return msgpack.packb(tuple(values)) or b""
        except (OverflowError, UnicodeEncodeError):  # nothing that msgpack could send
            return b""

    return forge


def _is_incomplete(data: bytes) -> bool:
    if len(data) < HEADER.size:
        return True
    length, _ = HEADER.unpack_from(data)
    return length <= MAX_MESSAGE_BYTES and len(data) < HEADER.size + length


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise FindingError(what)


# Most flipped bits of a reply leave a reply; most other damage does not.
ONE_BIT = st.tuples(
    st.just("flip"), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=1)
)
DAMAGED = st.one_of(ONE_BIT.map(lambda edit: [edit]), EDITS)

# Values by the number of the field that a worker could send, or almost.
PLAUSIBLE = {
    1: st.binary(min_size=72, max_size=72),
    2: st.booleans(),
    3: st.integers(0, 4),
    6: st.tuples(st.tuples(st.just("physics_s"), st.floats())),
    8: st.integers(0, 2),
}
FORGED: st.SearchStrategy[Change] = st.one_of(
    st.tuples(st.just("damage"), EDITS),
    st.tuples(
        st.just("field"),
        st.one_of(
            st.tuples(st.integers(0, NUM_FIELDS - 1), VALUES),
            *(st.tuples(st.just(number), values) for number, values in PLAUSIBLE.items()),
        ),
    ),
)
