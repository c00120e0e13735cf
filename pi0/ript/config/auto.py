"""The word for a choice that the program makes and announces."""

from typing import Literal

Auto = Literal["auto"]
