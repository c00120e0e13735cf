"""What the program makes of a worker's answer, and what it tells of one that has none."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pi0.records import Observation
from pi0.ript.env.replies import WireReply
from pi0.ript.film_strip import FilmStrip
from pi0.ript.interfaces import Fault, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The checked answer to a command, with what came beside the message.

    Attributes:
        slot: The pool's number of the slot.
        wire: The message.
        images: uint8 [N, height, width, 3]; None where the message has no look.
        strip: The film, if the command was filmed.
    """

    slot: int
    wire: WireReply
    images: NDArray[np.uint8] | None
    strip: FilmStrip | None


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
        strip=answer.strip,
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
