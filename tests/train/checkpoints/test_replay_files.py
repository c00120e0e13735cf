"""What is replayed is written beside a checkpoint and read by whichever ranks go on with it."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pi0.records import ImageEncoding
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.learner.batch import select
from pi0.ript.learner.replay import MOST_GROUPS, KeptStep
from pi0.ript.train.checkpoints import replay_files
from pi0.ript.train.checkpoints.checksums import write_checksums
from pi0.ript.train.checkpoints.replay_files import FOLDER, load_replay, write_replay
from pi0.ript.types import Batch
from tests.learner.samples import draw_batch
from tests.policy_parts import small_policy

ENCODING = ImageEncoding(size=28, rotate_180=True)
NUM_SAMPLES = 7  # in groups of 3, 3 and 1


def kept_step(step: int) -> KeptStep:
    batch = draw_batch(small_policy(), NUM_SAMPLES, seed=step)
    samples = replace(
        batch,
        observations=tuple(replace(each, encoding=ENCODING) for each in batch.observations),
        groups=batch.groups + step * MOST_GROUPS,
        behavior_means=np.random.default_rng(step).normal(size=(NUM_SAMPLES, 4, 4, 7)).astype("f4"),
    )
    return KeptStep(step=step, samples=samples)


KEPT = (kept_step(3), kept_step(4))


class Rank:
    """One of several ranks whose collectives are answered by itself alone."""

    def __init__(self, rank: int, world_size: int) -> None:
        self.rank, self.world_size = rank, world_size

    def gather_text(self, text: str) -> list[str]:
        return [text]


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # three blocks of observations: 3, 3 and 1
    monkeypatch.setattr(replay_files, "_BLOCK", 3)
    (tmp_path / FOLDER).parent.mkdir()
    write_replay(tmp_path, KEPT, SINGLE_PROCESS)
    write_checksums(tmp_path)
    return tmp_path


def assert_equal(found: Batch, expected: Batch) -> None:
    for name in (field.name for field in fields(Batch)):
        one, other = (getattr(batch, name) for batch in (found, expected))
        if name == "observations":
            for a, b in zip(one, other, strict=True):
                assert np.array_equal(a.images, b.images)
                assert np.array_equal(a.proprio, b.proprio)
                assert a.encoding == b.encoding
        elif name == "tasks":
            assert one == other
        else:
            assert one.dtype == other.dtype, name
            assert np.array_equal(one, other), name


def test_what_is_read_is_what_was_written(checkpoint: Path):
    found = load_replay(checkpoint, SINGLE_PROCESS)

    assert [each.step for each in found] == [3, 4]
    for one, other in zip(found, KEPT, strict=True):
        assert_equal(one.samples, other.samples)


def test_other_ranks_have_the_groups_that_they_would_have_collected(checkpoint: Path):
    ranks: list[Any] = [Rank(0, 2), Rank(1, 2)]
    even, odd = (load_replay(checkpoint, rank)[0].samples for rank in ranks)

    means = KEPT[0].samples.behavior_means
    assert means is not None
    for found, index in ((even, np.array([0, 1, 2, 6])), (odd, np.array([3, 4, 5]))):
        expected = replace(select(KEPT[0].samples, index), behavior_means=means[index])
        assert_equal(found, expected)


def test_a_rank_without_groups_keeps_no_step(checkpoint: Path):
    rank: Any = Rank(3, 4)
    assert load_replay(checkpoint, rank) == ()


def test_parts_of_two_ranks_come_together_in_the_order_of_their_groups(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
):
    parts: list[Any] = [Rank(0, 2), Rank(1, 2)]
    other = tmp_path_factory.mktemp("two_ranks")
    (other / FOLDER).parent.mkdir()
    for rank in parts:
        write_replay(other, load_replay(checkpoint, rank), rank)
    write_checksums(other)

    for one, expected in zip(load_replay(other, SINGLE_PROCESS), KEPT, strict=True):
        assert_equal(one.samples, expected.samples)
