"""Statistics of demonstrations: exact, after the transforms, and floored where nothing changes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pi0.codec import Codec, raw_state
from pi0.norm_stats import check_norm_stats
from pi0.ript.datasets.frames import Frames
from pi0.ript.datasets.lerobot import open_lerobot
from pi0.ript.sft.statistics import MIN_STD, compute_stats, groups_by_task
from tests.golden import golden
from tests.policy_parts import small_card
from tests.sft.frames import made_frames

EVERYTHING = np.arange(11)


def _constant(frames: Frames, values: dict[int, float]) -> Frames:
    """Frames whose actions are one number per task, half of them negative."""

    def chunks(chosen: np.ndarray, horizon: int) -> np.ndarray:
        of_task = np.array([values[int(task)] for task in frames.task_index[chosen]])
        sign = np.where(chosen % 2, 1, -1)
        return np.tile((of_task * sign)[:, None, None], (1, horizon, 7)).astype(np.float32)

    return replace(frames, read_chunks=chunks)


@pytest.mark.parametrize("extra_delta", [True, False])
def test_statistics_are_those_of_what_the_network_is_given(extra_delta: bool):
    frames, card = made_frames(), small_card(extra_delta=extra_delta)

    stats = compute_stats(frames, [EVERYTHING], card)

    state = raw_state(frames.proprio, "axis_angle")
    # every action of every chunk counts, and is relative to the state that its chunk begins in
    actions = frames.read_chunks(EVERYTHING, card.horizon).astype(np.float64)
    actions[..., :6] -= state[:, None, :6] if extra_delta else 0.0
    actions = actions.reshape(-1, 7)
    assert stats.state["mean"] == pytest.approx(state.mean(0))
    assert stats.actions["std"] == pytest.approx(actions.std(0))
    assert stats.actions["q01"] == pytest.approx(np.quantile(actions, 0.01, axis=0))
    assert stats.actions["q99"] == pytest.approx(np.quantile(actions, 0.99, axis=0))
    assert stats.actions["max"] == pytest.approx(actions.max(0))
    encoded = Codec(card=card, stats=stats).encode_actions(
        frames.read_chunks(EVERYTHING, card.horizon), frames.proprio
    )[..., :7]
    assert encoded.reshape(-1, 7).mean(0) == pytest.approx(np.zeros(7), abs=1e-5)
    assert encoded.reshape(-1, 7).std(0) == pytest.approx(np.ones(7), abs=1e-4)


def test_every_task_weighs_the_same_where_each_is_a_group():
    # Task 0 is always at +-0.5, task 1 at +-0.1: mean 0, variance (0.25 + 0.01) / 2.
    frames = _constant(made_frames(lengths=(6, 60)), {0: 0.5, 1: 0.1})
    card = small_card(extra_delta=False)

    stats = compute_stats(frames, groups_by_task(frames, np.arange(66)), card)

    assert stats.actions["mean"] == pytest.approx(np.zeros(7), abs=1e-7)
    assert stats.actions["std"] == pytest.approx(np.full(7, np.sqrt(0.13)), rel=1e-6)


def test_what_never_changes_gets_a_spread_of_its_own():
    frames = _constant(made_frames(), {0: 0.0, 1: 0.0})
    card = small_card(extra_delta=False, norm_mode="quantile")

    stats = compute_stats(frames, [EVERYTHING], card)

    assert stats.actions["std"] == pytest.approx(np.full(7, MIN_STD))
    assert stats.actions["q99"] - stats.actions["q01"] == pytest.approx(np.full(7, 2 * MIN_STD))
    check_norm_stats({"state": stats.state, "actions": stats.actions}, card, "")


@pytest.mark.parametrize("kind", ["image", "video"])
def test_they_agree_with_what_lerobot_computed(kind: str):
    """LeRobot's are of single actions, as chunks of one are; its quantiles of several episodes are no quantiles."""
    folder = golden(f"lerobot061_{kind}")
    frames = open_lerobot(folder, ("agentview",))
    card = small_card(extra_delta=False, horizon=1, execute_steps=1)

    stats = compute_stats(frames, [np.arange(len(frames))], card)

    theirs = json.loads((folder / "meta/stats.json").read_text())
    for ours, name in ((stats.state, "observation.state"), (stats.actions, "action")):
        for what in ("mean", "std", "min", "max"):
            assert ours[what] == pytest.approx(np.array(theirs[name][what]), abs=1e-6), what


def test_only_the_chosen_frames_count():
    frames, card = made_frames(), small_card(extra_delta=False)

    one = compute_stats(frames, [np.arange(6)], card)

    assert one.state["mean"] == pytest.approx(raw_state(frames.proprio[:6], "axis_angle").mean(0))
    assert [len(group) for group in groups_by_task(frames, np.arange(4, 11))] == [2, 5]
