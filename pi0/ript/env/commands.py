"""What a worker has been asked and has not answered yet, and which answers are possible."""

from collections.abc import Mapping
from dataclasses import dataclass

from pi0.ript.env.messages import MalformedMessageError
from pi0.ript.env.replies import WireReply
from pi0.ript.env.time_limits import Work


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request to a worker, which answers requests in order.

    Attributes:
        place: The worker's own number of the slot; -1 for starting, which concerns no slot.
        work: What it is made of.
        num_steps: Most control steps it may report.
        may_be_blind: Whether the answer may lack a look although nothing is solved.
    """

    place: int
    work: Mapping[Work, int]
    num_steps: int = 0
    may_be_blind: bool = False

    def check(self, reply: WireReply) -> None:
        """Raise ``MalformedMessageError`` unless the reply can be the answer."""
        if reply.place != self.place:
            raise MalformedMessageError(f"slot {reply.place} answers, {self.place} was asked")
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


START = Command(place=-1, work={"start": 1})
