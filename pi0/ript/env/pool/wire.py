"""Requests to workers and their replies as plain values, and the checks that a reply must pass."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pi0.records import ImageEncoding, Observation, ObservationSpec
from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.env.pool.messages import MalformedMessageError
from pi0.ript.interfaces import ExactnessError, Fault, Reply
from pi0.ript.packed_frames import PackedFrames

PROPRIO_VALUES = 9
MAX_ERROR_CHARACTERS = 2000
NUM_FIELDS = 10

Work = Literal["start", "build", "restore", "step", "frame"]
"""Starting a worker, building a scene, restoring a slot, one control step, its image for a video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to a worker, which replies to its requests in order.

    Attributes:
        worker_slot: The slot's number within its worker; -1 for starting, which concerns no slot.
        slot: The slot's number within the pool.
        work: Units of each kind of work that it takes.
        num_steps: Most control steps that the reply may report.
        may_lack_observation: Whether the reply may lack an observation although the task is not
            solved.
        record_video: Whether an image is recorded after each control step.
    """

    worker_slot: int
    slot: int = 0
    work: Mapping[Work, int]
    num_steps: int = 0
    may_lack_observation: bool = False
    record_video: bool = False

    def check(
        self, reply: Reply, *, worker_slot: int, has_observation: bool, frames_bytes: int
    ) -> None:
        """Raise ``MalformedMessageError`` unless this request can have the reply.

        Args:
            reply: The reply, still without images.
            worker_slot: The slot that it is about, numbered within the worker.
            has_observation: Whether an observation comes with it.
            frames_bytes: Length of the compressed video that comes with it; 0 for none.
        """
        if worker_slot != self.worker_slot:
            raise MalformedMessageError(
                f"a reply of slot {worker_slot} to a request for slot {self.worker_slot}"
            )
        if bool(frames_bytes) != (self.record_video and not reply.error and reply.num_steps > 0):
            raise MalformedMessageError(f"a video of {frames_bytes} bytes")
        too_few = not (reply.is_success or reply.error) and reply.num_steps < self.num_steps
        if reply.num_steps > self.num_steps or too_few:
            raise MalformedMessageError(f"{reply.num_steps} steps of {self.num_steps}")
        if reply.error:
            return
        if reply.is_success and not self.num_steps:
            raise MalformedMessageError("solved without a step")
        if not (has_observation or self.may_lack_observation or reply.is_success):
            raise MalformedMessageError("a reply without an observation")


START = Request(worker_slot=-1, work={"start": 1})


def pack_spec(spec: ObservationSpec) -> tuple[Any, ...]:
    """Return which images are wanted as plain values."""
    encoding = None if spec.encoding is None else (spec.encoding.size, spec.encoding.rotate_180)
    return spec.cameras, spec.height, spec.width, spec.quality, encoding


def unpack_spec(values: tuple[Any, ...]) -> ObservationSpec:
    """Return what ``pack_spec`` packed."""
    cameras, height, width, quality, encoding = values
    return ObservationSpec(
        cameras=tuple(cameras),
        height=height,
        width=width,
        quality=quality,
        encoding=encoding and ImageEncoding(size=encoding[0], rotate_180=encoding[1]),
    )


def restore_request(slot: int, num_workers: int, *, may_build: bool) -> Request:
    """Return the request to restore a slot of the pool, whose scene may not be loaded."""
    work: dict[Work, int] = {"restore": 1}
    building: dict[Work, int] = {"build": 1} if may_build else {}
    return Request(worker_slot=slot // num_workers, slot=slot, work=work | building)


def execute_request(
    slot: int, num_workers: int, num_steps: int, *, observe: bool, video: bool
) -> Request:
    """Return the request to run up to ``num_steps`` control steps in a slot of the pool."""
    steps: dict[Work, int] = {"step": num_steps}
    images: dict[Work, int] = {"frame": num_steps} if video else {}
    return Request(
        worker_slot=slot // num_workers,
        slot=slot,
        work=steps | images,
        num_steps=num_steps,
        may_lack_observation=not observe,
        record_video=video,
    )


def pack_reply(reply: Reply, loaded: tuple[SceneKey, ...]) -> tuple[Any, ...]:
    """Return a worker's reply as plain values: all but the images, whose bytes travel another way.

    Args:
        reply: The reply; its slot is numbered within the worker.
        loaded: Scenes that the worker has loaded after the request, least recently used first.
    """
    proprio = b"" if reply.observation is None else reply.observation.proprio.tobytes()
    return (
        reply.slot,
        proprio,
        reply.is_success,
        reply.num_steps,
        reply.error[:MAX_ERROR_CHARACTERS],
        reply.fault,
        tuple(reply.timings.items()),
        tuple(reply.counts.items()),
        0 if reply.frames is None else len(reply.frames.packed),
        loaded,
    )


def unpack_reply(
    values: tuple[Any, ...],
    request: Request,
    spec: ObservationSpec,
    read_images: Callable[[], NDArray[np.uint8]],
    take_frames: Callable[[int], bytes],
) -> tuple[Reply, tuple[SceneKey, ...]]:
    """Return the pool's reply to a request, and the scenes that its worker has loaded.

    Images are copied only after everything else has passed its checks.

    Args:
        values: What ``pack_reply`` returned.
        request: The oldest request of the worker.
        spec: Which images were requested.
        read_images: Returns the images of the observation, uint8 [N, height, width, 3].
        take_frames: Returns the compressed video, given its length in bytes; nothing for 0.

    Returns:
        The reply, with its slot numbered within the pool; the loaded scenes, least recently used
        first.

    Raises:
        MalformedMessageError: The worker cannot have sent this in reply to the request; the message
            names what is wrong.
    """
    _check_plain_fields(values)
    (worker_slot, packed_proprio, is_success, num_steps, error,
     fault, timings, counts, frames_bytes, loaded) = values  # fmt: skip
    proprio, scenes = _proprio(packed_proprio), _scenes(loaded)
    reply = Reply(
        slot=request.slot,
        observation=None,
        is_success=is_success,
        num_steps=num_steps,
        error=error,
        fault=_fault(fault, error),
        timings=_numbers("timings", timings, _is_duration),
        counts=_numbers("counts", counts, _is_count),
    )
    request.check(
        reply,
        worker_slot=worker_slot,
        has_observation=proprio is not None,
        frames_bytes=frames_bytes,
    )
    frames = _frames(take_frames(frames_bytes), frames_bytes, num_steps, spec)
    observation = (
        None
        if proprio is None
        else Observation(images=read_images(), proprio=proprio, encoding=spec.encoding)
    )
    return replace(reply, observation=observation, frames=frames), scenes


def lost(slot: int, error: str) -> Reply:
    """Return the reply of a slot whose simulation was lost through the fault of another request."""
    return Reply(
        slot=slot, observation=None, is_success=False, num_steps=0, error=error, fault="lost"
    )


def require_exact(reply: Reply) -> None:
    """Raise ``ExactnessError`` if a simulator found that it does not give what LIBERO gives."""
    if reply.fault == "inexact":
        raise ExactnessError(reply.error)


def blame_oldest(slots: Sequence[int], fault: Fault, error: str) -> list[Reply]:
    """Return the replies of slots that lost their worker: the first has the fault, others are lost."""
    replies = [lost(slot, error) for slot in slots]
    return [replace(reply, fault=fault) for reply in replies[:1]] + replies[1:]


def _check_plain_fields(values: tuple[Any, ...]) -> None:
    _require(len(values) == NUM_FIELDS, f"a reply has {NUM_FIELDS} fields, got {len(values)}")
    worker_slot, _, is_success, num_steps, error, _, _, _, frames_bytes, _ = values
    _require(_is_count(worker_slot), f"a slot is a number, got {worker_slot!r:.80}")
    _require(type(is_success) is bool, f"success is true or false, got {is_success!r:.80}")
    _require(_is_count(num_steps), f"steps are a number >= 0, got {num_steps!r:.80}")
    _require(type(error) is str, f"an error is a text, got {error!r:.80}")
    _require(_is_count(frames_bytes), f"a video has a number of bytes, got {frames_bytes!r:.80}")


def _frames(
    packed: bytes, num_bytes: int, num_steps: int, spec: ObservationSpec
) -> PackedFrames | None:
    """Return the video of a reply; it must hold one image of every camera after each control step."""
    _require(len(packed) == num_bytes, f"a video of {len(packed)} bytes instead of {num_bytes}")
    if not packed:
        return None
    frames = PackedFrames(packed=packed, shape=(num_steps, *spec.rendered_shape))
    try:
        frames.check()
    except ValueError as error:
        raise MalformedMessageError(f"a video that cannot be unpacked: {error}") from None
    return frames


def _proprio(data: object) -> NDArray[np.float64] | None:
    _require(type(data) is bytes, f"proprioception is bytes, got {type(data).__name__}")
    assert isinstance(data, bytes)
    if not data:
        return None
    _require(len(data) == PROPRIO_VALUES * 8, f"proprioception of {len(data)} bytes")
    values = np.frombuffer(data, dtype=np.float64)
    _require(bool(np.isfinite(values).all()), "proprioception is not finite")
    return values


def _fault(fault: object, error: str) -> Fault:
    for known in get_args(Fault):
        if fault == known and bool(known) == bool(error):
            return known
    raise MalformedMessageError(f"fault {fault!r:.80} with error {error!r:.80}")


def _numbers(name: str, pairs: object, is_valid: Callable[[object], bool]) -> dict[str, Any]:
    is_mapping = isinstance(pairs, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and type(pair[0]) is str and is_valid(pair[1])
        for pair in pairs
    )
    _require(is_mapping, f"{name} are names with numbers, got {pairs!r:.80}")
    assert isinstance(pairs, tuple)
    return dict(pairs)


def _scenes(scenes: object) -> tuple[SceneKey, ...]:
    are_valid = isinstance(scenes, tuple) and all(
        isinstance(scene, tuple) and [type(part) for part in scene] == [str, int]
        for scene in scenes
    )
    _require(are_valid, f"scenes are suites with task numbers, got {scenes!r:.80}")
    assert isinstance(scenes, tuple)
    return scenes


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_duration(value: object) -> bool:
    return type(value) is float and math.isfinite(value) and value >= 0


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not holds:
        raise MalformedMessageError(message)
