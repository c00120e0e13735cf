"""What a collection brought home, counted over all ranks."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from pi0.ript.interfaces import Ranks
from pi0.ript.report.episode_log import EpisodeRow
from pi0.ript.train.batch import Totals
from pi0.ript.types import EpisodeGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupFacts:
    """What the ranks tell each other about a finished group, all whole numbers.

    Attributes:
        group: Its number, the same on every rank.
        is_accepted: Whether it is learnt from.
        num_successes: Rollouts that succeeded.
        num_failures: Rollouts that ran to the step limit.
        num_crashed: Rollouts that could not be completed.
        num_steps: Control steps of the completed ones.
        num_taught: Episodes with at least one row; 0 if rejected, like the next figure.
        num_rows: Rows.
    """

    group: int
    is_accepted: bool
    num_successes: int
    num_failures: int
    num_crashed: int
    num_steps: int
    num_taught: int
    num_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a collection brought home.

    Attributes:
        groups: This rank's accepted groups, in the order they were requested; all figures below are
            those of all ranks.
        totals: What the accepted groups come to.
        num_accepted: Groups accepted.
        num_tried: Groups tried.
        num_crashed: Groups dropped because a rollout could not be completed.
        ended_by: ``enough groups`` or ``attempt budget``.
        num_all_success: Tried groups in which every rollout succeeded.
        num_all_failure: Tried groups in which every rollout failed.
        num_episodes: Completed rollouts of all tried groups.
        num_successes: Successful ones among them.
        num_steps: Control steps of all of them.
        rows: Every rollout of all tried groups, in request order.
    """

    groups: tuple[EpisodeGroup, ...]
    totals: Totals
    num_accepted: int
    num_tried: int
    num_crashed: int
    ended_by: Literal["enough groups", "attempt budget"]
    num_all_success: int
    num_all_failure: int
    num_episodes: int
    num_successes: int
    num_steps: int
    rows: tuple[EpisodeRow, ...] = ()

    @property
    def success_rate(self) -> float:
        """Return the share of successful rollouts over all tried groups."""
        return self.num_successes / max(1, self.num_episodes)

    @property
    def description(self) -> str:
        """Return what was tried and what came of it in one phrase."""
        return (
            f"ended by {self.ended_by}: {self.num_tried} groups tried, {self.num_accepted} accepted, "
            f"{self.num_all_success} succeeded throughout, {self.num_all_failure} failed throughout, "
            f"{self.num_crashed} crashed"
        )


def gather_facts(
    ranks: Ranks, facts: Sequence[GroupFacts], rows: Sequence[EpisodeRow]
) -> tuple[list[GroupFacts], tuple[EpisodeRow, ...]]:
    """Return the facts and rows of the groups of all ranks in request order; all ranks meet here."""
    own = {"facts": [asdict(fact) for fact in facts], "rows": [asdict(row) for row in rows]}
    told = [json.loads(text) for text in ranks.gather_text(json.dumps(own))]
    all_facts = [GroupFacts(**fact) for one in told for fact in one["facts"]]
    all_rows = [EpisodeRow(**row) for one in told for row in one["rows"]]
    return (
        sorted(all_facts, key=lambda fact: fact.group),
        tuple(sorted(all_rows, key=lambda row: (row.group, row.rollout))),
    )


def summarise(
    groups: tuple[EpisodeGroup, ...],
    facts: Sequence[GroupFacts],
    rows: tuple[EpisodeRow, ...],
    *,
    num_wanted: int,
) -> Collection:
    """Return the collection of this rank's groups with the figures of all.

    Args:
        groups: Accepted groups of this rank.
        facts: Of the tried groups of all ranks.
        rows: Of their episodes.
        num_wanted: G.
    """
    complete = [fact for fact in facts if fact.num_crashed == 0]
    accepted = [fact for fact in facts if fact.is_accepted]
    successes = sum(fact.num_successes for fact in facts)
    return Collection(
        groups=groups,
        totals=Totals(
            num_episodes=sum(fact.num_successes + fact.num_failures for fact in accepted),
            num_successes=sum(fact.num_successes for fact in accepted),
            num_taught=sum(fact.num_taught for fact in accepted),
            num_rows=sum(fact.num_rows for fact in accepted),
        ),
        num_accepted=len(accepted),
        num_tried=len(facts),
        num_crashed=len(facts) - len(complete),
        ended_by="enough groups" if len(accepted) >= num_wanted else "attempt budget",
        num_all_success=sum(fact.num_failures == 0 for fact in complete),
        num_all_failure=sum(fact.num_successes == 0 for fact in complete),
        num_episodes=successes + sum(fact.num_failures for fact in facts),
        num_successes=successes,
        num_steps=sum(fact.num_steps for fact in facts),
        rows=rows,
    )
