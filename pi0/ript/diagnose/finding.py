"""One line of the doctor: what was checked, its status, and what to type if something is wrong."""

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found.

    Example: ``Finding(name="torch", status="error", text="2.6.0 is installed, <3,>=2.7 is needed",
    fix="pip install 'torch<3,>=2.7'")``.

    Attributes:
        name: What was checked.
        status: ``error`` stops the work, ``warning`` may slow or surprise it.
        text: What was found.
        fix: A shell command, or what to change; empty if nothing is wrong.
    """

    name: str
    status: Status
    text: str
    fix: str = ""

    @property
    def line(self) -> str:
        """Return the finding for a terminal, the fix on a line of its own."""
        fix = f"\n{'':10}fix: {self.fix}" if self.fix else ""
        return f"{self.status:<9} {self.name}: {self.text}{fix}"
