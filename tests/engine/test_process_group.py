"""Ranks that differ are refused before anything is loaded, and only rank 0 names the difference."""

import importlib.metadata
import time

import pytest

from pi0.ript.config.load import to_yaml
from pi0.ript.config.schema import AlgoConfig, TrainConfig
from pi0.ript.engine.process_group import ProcessGroup, require_agreement
from tests.ranks import outcomes


def agree(
    process_group: ProcessGroup, lr_of_rank_1: float, groups: int, version_of_rank_1: str
) -> str:
    algo = AlgoConfig(lr=lr_of_rank_1 if process_group.rank else 3e-5, demo_batch_size=groups)
    config = TrainConfig(algo=algo)
    if process_group.rank:
        importlib.metadata.version = lambda _: version_of_rank_1
    require_agreement(process_group, config, to_yaml(config))
    return "agreed"


VERSION = importlib.metadata.version("pi0-ript")


def test_ranks_that_agree_go_on():
    assert outcomes(2, agree, 3e-5, 4, VERSION) == [(True, "agreed")] * 2


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((1e-5, 4, VERSION), ("rank 1 differs", "settings", "lr: 1.0e-05", "lr: 3.0e-05")),
        ((3e-5, 4, "9.9.9"), ("rank 1 differs", "versions", "pi0-ript 9.9.9", VERSION)),
    ],
)
def test_a_difference_is_named_once_by_rank_0(
    arguments: tuple[float, int, str], parts: tuple[str, ...]
):
    (is_done, text), (_, other) = outcomes(2, agree, *arguments, may_fail=True)

    assert not is_done
    assert all(part in text for part in parts), text
    assert "\n" not in text
    assert other == "SystemExit: 2"


def test_groups_that_cannot_be_shared_evenly_are_refused():
    (_, text), (_, other) = outcomes(2, agree, 3e-5, 3, VERSION, may_fail=True)

    assert "2 ranks cannot share algo.demo_batch_size 3 evenly" in text
    assert "start 1 or 3, or set it to 4" in text
    assert other.startswith(("SystemExit", "ValueError"))


def fail(process_group: ProcessGroup) -> str:
    if process_group.rank == 1:
        raise ValueError("the GPU of this rank is on fire")
    process_group.gather_text("still here")
    return "not reached"


def test_rank_0_reports_why_another_rank_has_ended():
    start = time.monotonic()

    (is_done, text), (_, other) = outcomes(2, fail, may_fail=True)

    assert not is_done
    assert text == "RankLostError: rank 1: the GPU of this rank is on fire"
    assert other == "SystemExit: 2"
    assert time.monotonic() - start < 60
