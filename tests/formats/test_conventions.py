"""Conventions that statistics reveal are checked against the card, and followed by the codec."""

import json

import numpy as np
import pytest

from pi0.codec import Codec
from pi0.formats.conventions import gripper_range
from pi0.formats.folder import Choices, read_folder
from tests.formats.checkpoints import (
    STATS,
    edit_json,
    edit_step,
    write_json,
)
from tests.policy_parts import small_card, small_stats

LIBERO_STATS = "assets/physical-intelligence/libero/norm_stats.json"
NAMES = ["x", "y", "z", "rx", "ry", "rz", "gripper"]


def read(folder, **choices):
    return read_folder(folder, Choices(**choices))


def refusal(folder, **choices) -> str:
    with pytest.raises(ValueError, match=folder.name) as caught:
        read(folder, **choices)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def set_gripper(folder, **values):
    path = folder / LIBERO_STATS
    raw = json.loads(path.read_text())
    for name, value in values.items():
        raw["norm_stats"]["actions"][name][6] = value
    write_json(path, raw)


def statistics(values) -> dict[str, np.ndarray]:
    """The statistics of a gripper's values, as a group of seven actions."""
    seven = np.zeros((len(values), 7))
    seven[:, 6] = values
    figures = {"mean": seven.mean(0), "std": seven.std(0), "min": seven.min(0), "max": seven.max(0)}
    for name in ("q01", "q10", "q90", "q99"):
        figures[name] = np.quantile(seven, int(name[1:]) / 100, axis=0)
    return figures


PAIRS = (("mean", "std"), ("q01", "q99"), ("q10", "q90"), ("min", "max"))


@pytest.mark.parametrize("closes", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("names", PAIRS)
def test_every_pair_of_statistics_tells_the_two_ranges_apart(names, closes):
    is_closed = np.random.default_rng(0).random(5000) < closes
    for low, high in ((-1, 1), (0, 1)):
        every = statistics(np.where(is_closed, high, low))
        assert gripper_range({name: every[name] for name in names}) == (low, high)


def test_a_gripper_that_moves_between_the_ends_is_told_by_its_ends():
    widths = np.random.default_rng(0).random(5000)
    assert gripper_range(statistics(widths)) == (0, 1)
    assert gripper_range(statistics(2 * widths - 1)) == (-1, 1)


@pytest.mark.parametrize("constant", [0.0, 1.0])
def test_a_gripper_that_never_moves_tells_nothing(constant):
    values = statistics(np.full(10, constant))
    assert gripper_range({name: values[name] for name in ("mean", "std")}) is None


def test_a_gripper_of_zero_to_one_needs_its_key_and_back(openpi):
    set_gripper(openpi, mean=0.55, std=0.497, q01=0.0, q99=1.0)
    message = refusal(openpi)
    assert "gripper is libero, which is -1 to 1" in message
    assert "a gripper of 0 to 1 (mean 0.550, q01 0.000, q99 1.000, std 0.497)" in message
    assert "policy.overrides.gripper=one_opens" in message
    assert read(openpi, overrides={"gripper": "one_closes"}).card.gripper == "one_closes"
    set_gripper(openpi, mean=0.1, std=0.995, q01=-1.0, q99=1.0)
    assert read(openpi).card.gripper == "libero"
    message = refusal(openpi, overrides={"gripper": "one_opens"})
    assert "set policy.overrides.gripper=libero" in message


@pytest.mark.parametrize(
    ("gripper", "opened", "closed"), [("libero", -1, 1), ("one_opens", 1, 0), ("one_closes", 0, 1)]
)
def test_the_codec_turns_the_gripper_into_liberos_and_back(gripper, opened, closed):
    codec = Codec(card=small_card(gripper=gripper), stats=small_stats())
    proprio = np.array([[0.1, 0.2, 0.3, 0, 0, 0, 1, 0, 0]])
    actions = np.zeros((1, 6, 7), np.float32)
    actions[0, :, 6] = [-1, 1, -1, 0, 1, -1]
    encoded = codec.encode_actions(actions, proprio)
    mean, std = (small_stats().actions[name][6] for name in ("mean", "std"))
    data = encoded[0, :2, 6] * std + mean
    np.testing.assert_allclose(data, [opened, closed], atol=1e-5)
    np.testing.assert_allclose(codec.decode_actions(encoded, proprio), actions, atol=1e-5)


def make_relative(folder, *, made=True, undone=True, names=NAMES, joints=("gripper",)):
    step = {"enabled": made, "exclude_joints": list(joints), "action_names": names}
    edit_step(folder, "pre", "relative_actions_processor", **step)
    edit_step(folder, "post", "absolute_actions_processor", enabled=undone)


def test_relative_actions_that_only_the_pipelines_mention_are_followed(lerobot):
    edit_json(lerobot / "config.json", use_relative_actions=...)
    assert not read(lerobot).card.extra_delta
    make_relative(lerobot)
    assert read(lerobot).card.extra_delta
    make_relative(lerobot, made=False, undone=False)
    assert not read(lerobot).card.extra_delta


@pytest.mark.parametrize(
    ("change", "sides"),
    [
        ({"undone": False}, ("policy_preprocessor.json has", "policy_postprocessor.json has")),
        ({"made": False}, ("processor disabled or absent", "absolute_actions_processor enabled")),
        ({}, ("use_relative_actions is false", "relative_actions_processor enabled")),
        ({"joints": ()}, ("exactly the gripper absolute", "relative_actions_processor")),
        ({"names": None}, ("exactly the gripper absolute", "relative_actions_processor")),
    ],
)
def test_files_that_disagree_on_relative_actions_are_refused(lerobot, change, sides):
    make_relative(lerobot, **change)
    message = refusal(lerobot)
    for side in sides:
        assert side in message
    assert read(lerobot, overrides={"extra_delta": True}).card.extra_delta


def test_pipelines_that_normalize_in_two_ways_are_refused(lerobot):
    modes = {"STATE": "MEAN_STD", "ACTION": "QUANTILES"}
    edit_step(lerobot, "post", "unnormalizer_processor", norm_map=modes)
    message = refusal(lerobot)
    assert "policy_preprocessor.json normalizes actions by MEAN_STD" in message
    assert "policy_postprocessor.json by QUANTILES" in message
    assert read(lerobot, overrides={"norm_mode": "z_score"})


def widened(state, actions, padded=0):
    """Statistics of a robot with so many numbers, padded with zeros as openpi pads them."""
    raw = {
        group: {
            name: (values * 3)[:width] + [0.0] * max(0, padded - width)
            for name, values in STATS[group].items()
        }
        for group, width in (("state", state), ("actions", actions))
    }
    return {"norm_stats": raw}


ROBOTS = {
    "ALOHA": (14, 14, 0),
    "DROID": (8, 8, 0),
    "DROID, padded": (8, 8, 12),
    "SO-100": (6, 6, 0),
    "another robot": (9, 7, 0),
}


@pytest.mark.parametrize("robot", ROBOTS)
def test_statistics_of_another_robot_are_refused_with_what_they_are(openpi, robot):
    state, actions, padded = ROBOTS[robot]
    write_json(openpi / LIBERO_STATS, widened(state, actions, padded))
    message = refusal(openpi)
    assert "no statistics of LIBERO" in message
    assert f"is of {robot.partition(',')[0]}" in message
    assert f"{state} numbers of state and {actions} of action" in message
    assert "norm_stats_path" in message


def test_statistics_of_another_robot_beside_liberos_are_set_aside_and_named(openpi):
    write_json(openpi / "assets/trossen/norm_stats.json", widened(14, 14))
    write_json(openpi / "assets/droid/norm_stats.json", widened(8, 8, 12))
    contents = read(openpi)
    np.testing.assert_allclose(contents.stats.actions["mean"], STATS["actions"]["mean"])
    said = "\n".join(contents.not_followed)
    assert "assets/trossen/norm_stats.json: of ALOHA" in said
    assert "assets/droid/norm_stats.json: of DROID" in said


def test_a_data_set_of_another_robot_is_told_by_its_statistics_alone(openpi):
    """stats.json of LeRobot also counts frames, one number."""
    stats = {
        name: figures | {"count": [273465]}
        for name, figures in zip(
            ("observation.state", "action"), widened(14, 14)["norm_stats"].values(), strict=True
        )
    }
    write_json(openpi / "meta/stats.json", stats)
    assert "meta/stats.json: of ALOHA" in "\n".join(read(openpi).not_followed)
    (openpi / LIBERO_STATS).unlink()
    assert "meta/stats.json is of ALOHA" in refusal(openpi)


@pytest.mark.parametrize("hidden", [".ipynb_checkpoints", "assets/.ipynb_checkpoints", ".cache/x"])
def test_hidden_folders_are_not_searched(openpi, hidden):
    other = {g: {n: [2 * x for x in v] for n, v in f.items()} for g, f in STATS.items()}
    write_json(openpi / hidden / "norm_stats.json", {"norm_stats": other})
    assert read(openpi)


@pytest.mark.parametrize(
    ("group", "feature", "width", "robot"),
    [
        ("input_features", "observation.state", 14, "ALOHA"),
        ("output_features", "action", 14, "ALOHA"),
        ("output_features", "action", 8, "DROID"),
        ("output_features", "action", 6, "SO-100"),
    ],
)
def test_a_configuration_of_another_robot_is_refused_with_what_it_is(
    lerobot, group, feature, width, robot
):
    features = json.loads((lerobot / "config.json").read_text())[group]
    features[feature]["shape"] = [width]
    edit_json(lerobot / "config.json", **{group: features})
    message = refusal(lerobot)
    assert robot in message
    assert "only policies of LIBERO" in message
    assert str(width) in message
