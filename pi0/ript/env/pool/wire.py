"""Commands to workers and their replies as plain values, and the checks that a reply must pass to be believed."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation, ObservationSpec
from pi0.ript.env.pool.ledger import SceneKey
from pi0.ript.env.pool.messages import MalformedMessageError
from pi0.ript.interfaces import Fault, Reply
from pi0.ript.packed_frames import PackedFrames

PROPRIO_VALUES = 9
MAX_ERROR_CHARACTERS = 2000
FIELDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class WireReply:
    """A reply as it travels; the pictures are in shared memory.

    Attributes:
        place: The worker's own number of the slot.
        proprio: float64 [9]; None where the reply has no look.
        is_success: See ``Reply``.
        num_steps: See ``Reply``.
        error: See ``Reply``.
        fault: See ``Reply``.
        timings: See ``Reply``.
        counts: See ``Reply``.
        frames_bytes: Length of the compressed film, which comes another way; 0 for none.
        loaded: Scenes that the worker holds after the command, least recently used first.
    """

    place: int
    proprio: NDArray[np.float64] | None
    is_success: bool
    num_steps: int
    error: str
    fault: Fault
    timings: Mapping[str, float]
    counts: Mapping[str, int]
    frames_bytes: int
    loaded: tuple[SceneKey, ...]


def pack_reply(reply: Reply, loaded: tuple[SceneKey, ...]) -> tuple[Any, ...]:
    """Return a reply as plain values: all but the pictures."""
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


def unpack_reply(values: tuple[Any, ...]) -> WireReply:
    """Return what ``pack_reply`` packed.

    Raises:
        MalformedMessageError: The values cannot come from ``pack_reply``; says which.
    """
    _require(len(values) == FIELDS, f"a reply has {FIELDS} fields, got {len(values)}")
    place, proprio, is_success, num_steps, error, fault, timings, counts, frames_bytes, loaded = (
        values
    )
    _require(_is_count(place), f"a slot is a number, got {place!r:.80}")
    _require(type(is_success) is bool, f"success is true or false, got {is_success!r:.80}")
    _require(_is_count(num_steps), f"steps are a number >= 0, got {num_steps!r:.80}")
    _require(type(error) is str, f"an error is a text, got {error!r:.80}")
    _require(_is_count(frames_bytes), f"a film has bytes, got {frames_bytes!r:.80}")
    return WireReply(
        place=place,
        proprio=_proprio(proprio),
        is_success=is_success,
        num_steps=num_steps,
        error=error,
        fault=_fault(fault, error),
        timings=_figures("timings", timings, _is_duration),
        counts=_figures("counts", counts, _is_count),
        frames_bytes=frames_bytes,
        loaded=_scenes(loaded),
    )


def unpack_frames(reply: WireReply, packed: bytes, spec: ObservationSpec) -> PackedFrames | None:
    """Return the film that came with a reply.

    Raises:
        MalformedMessageError: It is anything else than one picture of every camera after each step.
    """
    _require(len(packed) == reply.frames_bytes, f"a film of {len(packed)} bytes")
    if not packed:
        return None
    shape = (reply.num_steps, len(spec.cameras), spec.height, spec.width, 3)
    frames = PackedFrames(packed=packed, shape=shape)
    try:
        frames.check()
    except ValueError as error:
        raise MalformedMessageError(f"a film that is none: {error}") from None
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


def _figures(name: str, pairs: object, is_right: Callable[[object], bool]) -> dict[str, Any]:
    is_mapping = isinstance(pairs, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 and type(pair[0]) is str and is_right(pair[1])
        for pair in pairs
    )
    _require(is_mapping, f"{name} are names with figures, got {pairs!r:.80}")
    assert isinstance(pairs, tuple)
    return dict(pairs)


def _scenes(scenes: object) -> tuple[SceneKey, ...]:
    are_right = isinstance(scenes, tuple) and all(
        isinstance(scene, tuple) and [type(part) for part in scene] == [str, int]
        for scene in scenes
    )
    _require(are_right, f"scenes are suites with task numbers, got {scenes!r:.80}")
    assert isinstance(scenes, tuple)
    return scenes


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_duration(value: object) -> bool:
    return type(value) is float and math.isfinite(value) and value >= 0


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - reads like an assertion
    if not holds:
        raise MalformedMessageError(message)


Work = Literal["start", "build", "restore", "step", "frame"]
"""Starting a worker, building a scene, restoring a slot, one control step, its picture for a film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to a worker, which answers requests in order.

    Attributes:
        place: The worker's own number of the slot; -1 for starting, which concerns no slot.
        position: The pool's number of the slot.
        work: What it is made of.
        num_steps: Most control steps it may report.
        may_lack_observation: Whether the answer may lack a look although nothing is solved.
        record_video: Whether its control steps are filmed.
    """

    place: int
    position: int = 0
    work: Mapping[Work, int]
    num_steps: int = 0
    may_lack_observation: bool = False
    record_video: bool = False

    def check(self, reply: WireReply) -> None:
        """Raise ``MalformedMessageError`` unless the reply can be the answer."""
        if reply.place != self.place:
            raise MalformedMessageError(f"slot {reply.place} answers, {self.place} was asked")
        if bool(reply.frames_bytes) != (
            self.record_video and not reply.error and reply.num_steps > 0
        ):
            raise MalformedMessageError(f"a film of {reply.frames_bytes} bytes")
        if reply.error:
            return
        if reply.num_steps > self.num_steps or (
            not reply.is_success and reply.num_steps < self.num_steps
        ):
            raise MalformedMessageError(f"{reply.num_steps} steps of {self.num_steps}")
        if reply.is_success and not self.num_steps:
            raise MalformedMessageError("solved without a step")
        if reply.proprio is None and not (self.may_lack_observation or reply.is_success):
            raise MalformedMessageError("a reply without a look")


def restore_request(slot: int, num_workers: int, *, may_build: bool) -> Request:
    """Return the request of an initial state in a slot of the pool, whose scene may not be loaded."""
    work: dict[Work, int] = {"restore": 1}
    building: dict[Work, int] = {"build": 1} if may_build else {}
    return Request(place=slot // num_workers, position=slot, work=work | building)


def execute_request(
    slot: int, num_workers: int, num_steps: int, *, observe: bool, video: bool
) -> Request:
    """Return the request of up to ``num_steps`` control steps in a slot of the pool."""
    steps: dict[Work, int] = {"step": num_steps}
    images: dict[Work, int] = {"frame": num_steps} if video else {}
    return Request(
        place=slot // num_workers,
        position=slot,
        work=steps | images,
        num_steps=num_steps,
        may_lack_observation=not observe,
        record_video=video,
    )


START = Request(place=-1, work={"start": 1})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The checked answer to a command, with what came beside the message.

    Attributes:
        slot: The pool's number of the slot.
        wire: The message.
        images: uint8 [N, height, width, 3]; None where the message has no look.
        frames: The film, if the command was filmed.
    """

    slot: int
    wire: WireReply
    images: NDArray[np.uint8] | None
    frames: PackedFrames | None


def as_reply(answer: Answer, restart_s: float | None) -> Reply:
    """Return an answer as the pool's reply.

    Args:
        answer: The answer.
        restart_s: Seconds that its worker was missing, if this is the first since it was replaced.
    """
    wire, observation = answer.wire, None
    if wire.proprio is not None:
        assert answer.images is not None
        observation = Observation(images=answer.images, proprio=wire.proprio)
    restarts = {} if restart_s is None else {"restart_s": restart_s}
    return Reply(
        slot=answer.slot,
        observation=observation,
        is_success=wire.is_success,
        num_steps=wire.num_steps,
        error=wire.error,
        fault=wire.fault,
        frames=answer.frames,
        timings={**wire.timings, **restarts},
        counts=wire.counts,
    )


def lost(slot: int, error: str) -> Reply:
    """Return the reply of a slot whose simulation went down with another one."""
    return Reply(
        slot=slot, observation=None, is_success=False, num_steps=0, error=error, fault="lost"
    )


def blame_oldest(slots: Sequence[int], fault: Fault, error: str) -> list[Reply]:
    """Return the replies of slots that lost their worker: the oldest has the fault, others are lost."""
    replies = [lost(slot, error) for slot in slots]
    return [replace(reply, fault=fault) for reply in replies[:1]] + replies[1:]
