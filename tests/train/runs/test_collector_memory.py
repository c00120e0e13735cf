"""What a run holds while it collects."""

import gc
from pathlib import Path

from pi0.ript.types import Batch, EpisodeGroup
from tests.policy_parts import small_policy
from tests.train.toy_training import ONE_GROUP
from tests.train.toy_world import toy_trainer


def test_a_collection_begins_without_the_images_of_the_one_before(tmp_path: Path):
    held: list[int] = []
    before = num_held()  # what other tests of this process have left
    with toy_trainer(ONE_GROUP, small_policy(), tmp_path) as (trainer, pool):
        collect = trainer.parts.collector.collect

        def counting(step: int):
            held.append(num_held() - before)
            return collect(step)

        trainer.parts.collector.collect = counting  # type: ignore[method-assign]
        pool.succeeds = lambda slot: slot % 2 == 0
        trainer.train()

    assert len(held) == 2
    assert max(held) <= 0  # what others left may go meanwhile


def num_held() -> int:
    """Return how many batches and groups of rollouts are alive."""
    gc.collect()
    return sum(type(one) in (Batch, EpisodeGroup) for one in gc.get_objects())
