"""What a layout would do, and what bounds it."""

from dataclasses import dataclass

from benchmarks.rollout_model.costs import Costs, Part
from benchmarks.rollout_model.layout import Layout, Work
from benchmarks.rollout_model.rank import Rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What came out.

    Attributes:
        episodes_per_minute: Of all ranks.
        steady_episodes_per_minute: The same without the first and the last episode of every slot, where there
            are that many.
        bottleneck: What the busiest resource does most of the time.
        busy: Share of the time that is spent on each part of the work by the resource that does it.
    """

    episodes_per_minute: float
    steady_episodes_per_minute: float
    bottleneck: Part
    busy: dict[Part, float]


def predict(costs: Costs, layout: Layout, work: Work, seed: int = 0) -> Prediction:
    """Return the throughput of a layout and what bounds it; the same inputs give the same numbers."""
    rank = Rank(costs, layout, work, seed)
    rank.run()
    per_second = rank.num_finished / rank.now
    busy = _busy(rank)
    return Prediction(
        episodes_per_minute=60.0 * layout.num_learners * per_second,
        steady_episodes_per_minute=60.0 * layout.num_learners * rank.steady_rate(),
        bottleneck=_bottleneck(busy),
        busy=busy,
    )


def _busy(rank: Rank) -> dict[Part, float]:
    workers = len(rank.workers) * rank.now
    return {
        "simulation": rank.seconds["simulation"] / workers,
        "rendering": rank.seconds["rendering"] / workers,
        "restore": rank.seconds["restore"] / workers,
        "inference": rank.seconds["inference"] / rank.now,
        "transfer": max(rank.seconds["transfer"], rank.workers.link_seconds) / rank.now,
    }


def _bottleneck(busy: dict[Part, float]) -> Part:
    """Return the largest part of the work of the busiest resource."""
    of_workers: list[Part] = ["simulation", "rendering", "restore"]
    of_scheduler: list[Part] = ["inference", "transfer"]
    resources = [of_workers, of_scheduler]
    fullest = max(resources, key=lambda parts: sum(busy[part] for part in parts))
    return max(fullest, key=lambda part: busy[part])
