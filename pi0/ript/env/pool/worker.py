"""A simulator process: requests in over a socket, small replies out, images in shared memory.

Started through ``start.py``, never by forking or by re-importing the program that
needs it, so it loads neither torch nor anything else of that program.
"""

import mmap
import os
import socket
import sys
import time

import numpy as np

from pi0.records import ObservationSpec
from pi0.ript.env.pool.images import SharedImages
from pi0.ript.env.pool.messages import Channel, MalformedMessageError
from pi0.ript.env.pool.scene_host import SceneHost
from pi0.ript.env.pool.wire import pack_reply, unpack_spec
from pi0.ript.interfaces import Reply
from pi0.ript.types import InitialState


def serve(channel: Channel, memory: mmap.mmap) -> None:
    """Reply to requests until one to stop is received or the program has ended.

    Raises:
        MalformedMessageError: A message is not a request; what else is wrong cannot be known.
    """
    try:
        host, spec, began = _start(channel)
    except (ImportError, OSError) as error:
        channel.send(("failed", str(error)))
        return
    except Exception as error:  # noqa: BLE001 - the boundary: one line in the program's error
        channel.send(("broken", f"{type(error).__name__}: {error}"))
        return
    images = SharedImages(spec, memory)
    # Both processes read the same monotonic clock.
    channel.send(("ready", time.monotonic() - began, *host.driver.values()))
    try:
        while True:
            request = channel.receive()
            if request[0] == "stop":
                return
            if request[0] == "modules":
                heads = sorted({name.partition(".")[0] for name in sys.modules})
                channel.send(("modules", *heads))
                continue
            if request[0] == "release":
                host.release(request[1])
                continue
            if request[0] == "drop":
                host.drop_scenes()
                continue
            slot, reply = _run(host, request)
            _write_images(images, slot, reply)
            channel.send(("reply", *pack_reply(reply, host.loaded)))
    except (EOFError, ConnectionError):
        return  # the program that started this process has ended
    finally:
        host.close()


def _start(channel: Channel) -> tuple[SceneHost, ObservationSpec, float]:
    _, began, wanted, num_slots, max_scenes, num_steps_wait, exactness = channel.receive()
    spec = unpack_spec(wanted)
    return SceneHost(spec, num_slots, max_scenes, num_steps_wait, exactness), spec, began


def _run(host: SceneHost, request: tuple) -> tuple[int, Reply]:
    """Return the slot within the pool, which is where its images go, and the reply."""
    match request:
        case ("restore", worker_slot, slot, suite, task_id, index, fixture_seed, bytes() as state):
            initial_state = InitialState(
                suite=suite,
                task_id=task_id,
                index=index,
                fixture_seed=fixture_seed,
                state=np.frombuffer(state, dtype=np.float64),
            )
            return slot, host.restore(worker_slot, initial_state)
        case ("execute", worker_slot, slot, bytes() as packed, observe, video):
            actions = np.frombuffer(packed, dtype=np.float32).reshape(-1, 7)
            return slot, host.execute(worker_slot, actions, observe=observe, video=video)
        case _:
            raise MalformedMessageError(f"not a request: {request!r:.80}")


def _write_images(images: SharedImages, slot: int, reply: Reply) -> None:
    if reply.observation is not None:
        images.write_images(slot, reply.observation.images)
    if reply.frames is not None:
        images.write_frames(slot, reply.frames.packed)


def main() -> None:
    """Serve on the two file descriptors given on the command line."""
    socket_fd, memory_fd, num_bytes = (int(argument) for argument in sys.argv[1:])
    memory = mmap.mmap(memory_fd, num_bytes)
    with Channel(socket.socket(fileno=socket_fd)) as channel:
        try:
            serve(channel, memory)
        except MalformedMessageError as error:
            sys.exit(f"simulator process {os.getpid()}: {error}")


if __name__ == "__main__":
    main()
