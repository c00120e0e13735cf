"""Rank 0 alone reads and writes the run directory; what it finds there, it tells the other ranks."""

from pi0.ript.interfaces import Ranks


def is_writer(ranks: Ranks) -> bool:
    """Return whether this rank writes the run directory."""
    return ranks.rank == 0


def first_said(ranks: Ranks, text: str) -> str:
    """Return the text of rank 0; all ranks meet here."""
    return ranks.gather_text(text)[0]


def agree(ranks: Ranks, *, is_so: bool) -> bool:
    """Return what rank 0 says; all ranks meet here."""
    return first_said(ranks, str(is_so)) == str(True)
