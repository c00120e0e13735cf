"""A simulator process: commands in over a socket, small replies out, pictures in shared memory.

Started as ``python -m pi0.ript.env.worker``, never by forking or by re-importing the program that
wants it, so it loads neither torch nor anything else of that program.
"""

import mmap
import socket
import sys
from multiprocessing.connection import Connection

import numpy as np

from pi0.records import ObservationSpec
from pi0.ript.env.host import SceneHost
from pi0.ript.env.messages import receive, send
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState


def serve(connection: Connection, memory: mmap.mmap) -> None:
    """Answer commands until told to stop or until the other side is gone."""
    try:
        host, spec = _start(connection)
    except (ImportError, OSError) as error:
        send(connection, ("failed", str(error)))
        return
    send(connection, ("ready",))
    try:
        while True:
            command = receive(connection)
            if command[0] == "stop":
                return
            if command[0] == "modules":
                heads = sorted({name.partition(".")[0] for name in sys.modules})
                send(connection, ("modules", tuple(heads)))
                continue
            if command[0] == "release":
                host.release(command[1])
                continue
            position, reply = _run(host, command)
            _write_images(memory, spec, position, reply)
            send(connection, ("reply", *pack_reply(reply), host.loaded))
    except (EOFError, ConnectionError):
        return  # the program that started this process has ended
    finally:
        host.close()


def _start(connection: Connection) -> tuple[SceneHost, ObservationSpec]:
    _, cameras, height, width, quality, num_slots, max_scenes, num_steps_wait = receive(connection)
    spec = ObservationSpec(cameras=cameras, height=height, width=width, quality=quality)
    return SceneHost(spec, num_slots, max_scenes, num_steps_wait), spec


def _run(host: SceneHost, command: tuple) -> tuple[int, Reply]:
    """Return the slot's place in shared memory and the reply."""
    name, slot, position, *rest = command
    if name == "restore":
        suite, task_id, index, fixture_seed, state = rest
        initial_state = InitialState(
            suite=suite,
            task_id=task_id,
            index=index,
            fixture_seed=fixture_seed,
            state=np.frombuffer(state, dtype=np.float64),
        )
        return position, host.restore(slot, initial_state)
    assert name == "execute", name
    actions, look = rest
    chunk = np.frombuffer(actions, dtype=np.float32).reshape(-1, 7)
    return position, host.execute(slot, chunk, look=look)


def image_bytes(spec: ObservationSpec) -> int:
    """Return how many bytes of shared memory one slot's pictures take."""
    return len(spec.cameras) * spec.height * spec.width * 3


def _write_images(memory: mmap.mmap, spec: ObservationSpec, position: int, reply: Reply) -> None:
    if reply.observation is not None:
        start = position * image_bytes(spec)
        memory[start : start + image_bytes(spec)] = reply.observation.images.tobytes()


def pack_reply(reply: Reply) -> tuple:
    """Return a reply as plain values: all but the pictures."""
    proprio = b"" if reply.observation is None else reply.observation.proprio.tobytes()
    figures = tuple(reply.timings.items()), tuple(reply.counts.items())
    return reply.slot, proprio, reply.is_success, reply.num_steps, reply.error, *figures


def main() -> None:
    """Serve on the two file descriptors given on the command line."""
    socket_fd, memory_fd, num_bytes = (int(argument) for argument in sys.argv[1:])
    memory = mmap.mmap(memory_fd, num_bytes)
    with Connection(socket.socket(fileno=socket_fd).detach()) as connection:
        serve(connection, memory)


if __name__ == "__main__":
    main()
