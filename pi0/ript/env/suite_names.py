"""The names that people have for LIBERO's suites: LIBERO_GOAL, LIBERO-Long, spatial, libero_10_no_noops."""

import difflib
import re
from collections.abc import Sequence

# What data sets append to the suite that they were recorded in.
_SUFFIX = re.compile(r"_(no_?noops|modified|lerobot|rlds|image|v?\d+(\.\d+)+)$")
# The ten long tasks and the ninety short ones; "libero_10" is nearest in spelling and a tenth of them.
_BOTH = "libero_100"


def meant_suite(name: str) -> str:
    """Return how LIBERO spells the suite that is meant, which need not exist.

    Capitals, hyphens, blanks and a missing ``libero_`` do not matter, ``long`` is another word for ``10``,
    and what data sets append is cut off.
    """
    text = re.sub(r"[\s_-]+", "_", name.strip().lower()).strip("_")
    while _SUFFIX.search(text):
        text = _SUFFIX.sub("", text)
    text = "libero_" + re.sub(r"^libero_?", "", text)
    return re.sub(r"^libero_long(?=_|$)", "libero_10", text)


def unknown_suite(name: str, suites: Sequence[str]) -> ValueError:
    """Return the error of a suite that does not exist, with the nearest one."""
    meant = meant_suite(name)
    nearest = difflib.get_close_matches(meant, suites, n=1, cutoff=0.0)[0]
    hint = f"did you mean {nearest!r}?"
    if meant == _BOTH:
        hint = "LIBERO-100 is libero_90 and libero_10 together;"
    return ValueError(f"unknown suite {name!r}; {hint} Allowed: {', '.join(suites)}")
