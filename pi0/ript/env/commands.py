"""What a worker has been asked and has not answered yet, and which answers are possible."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pi0.ript.env.messages import MalformedMessageError
from pi0.ript.env.replies import WireReply

Work = Literal["start", "build", "restore", "step", "frame"]
"""Starting a worker, building a scene, restoring a slot, one control step, its picture for a film."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request to a worker, which answers requests in order.

    Attributes:
        place: The worker's own number of the slot; -1 for starting, which concerns no slot.
        position: The pool's number of the slot.
        work: What it is made of.
        num_steps: Most control steps it may report.
        may_be_blind: Whether the answer may lack a look although nothing is solved.
        is_filmed: Whether its control steps are filmed.
    """

    place: int
    position: int = 0
    work: Mapping[Work, int]
    num_steps: int = 0
    may_be_blind: bool = False
    is_filmed: bool = False

    def check(self, reply: WireReply) -> None:
        """Raise ``MalformedMessageError`` unless the reply can be the answer."""
        if reply.place != self.place:
            raise MalformedMessageError(f"slot {reply.place} answers, {self.place} was asked")
        if bool(reply.strip_bytes) != (self.is_filmed and not reply.error and reply.num_steps > 0):
            raise MalformedMessageError(f"a film of {reply.strip_bytes} bytes")
        if reply.error:
            return
        if reply.num_steps > self.num_steps or (
            not reply.is_success and reply.num_steps < self.num_steps
        ):
            raise MalformedMessageError(f"{reply.num_steps} steps of {self.num_steps}")
        if reply.is_success and not self.num_steps:
            raise MalformedMessageError("solved without a step")
        if reply.proprio is None and not (self.may_be_blind or reply.is_success):
            raise MalformedMessageError("a reply without a look")


def restore_command(slot: int, num_workers: int, *, may_build: bool) -> Command:
    """Return the request of an initial state in a slot of the pool, whose scene may not be loaded."""
    work: dict[Work, int] = {"restore": 1}
    building: dict[Work, int] = {"build": 1} if may_build else {}
    return Command(place=slot // num_workers, position=slot, work=work | building)


def chunk_command(
    slot: int, num_workers: int, num_steps: int, *, look: bool, film: bool
) -> Command:
    """Return the request of up to ``num_steps`` control steps in a slot of the pool."""
    steps: dict[Work, int] = {"step": num_steps}
    pictures: dict[Work, int] = {"frame": num_steps} if film else {}
    return Command(
        place=slot // num_workers,
        position=slot,
        work=steps | pictures,
        num_steps=num_steps,
        may_be_blind=not look,
        is_filmed=film,
    )


START = Command(place=-1, work={"start": 1})
