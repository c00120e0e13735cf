"""LIBERO <-> model space: images, states and actions, pinned to openpi's conventions."""

import json
import math

import numpy as np
import pytest

from pi0.codec import Codec, raw_state
from pi0.images import resize_with_pad
from pi0.norm_stats import read_norm_stats
from pi0.records import Observation
from tests.policy_parts import make_observation, small_card, small_stats


def codec(**changes) -> Codec:
    return Codec(card=small_card(**changes), stats=small_stats())


def proprio_of(quaternion, position=(0.1, 0.2, 0.3), gripper=(0.04, -0.04)):
    return np.array([[*position, *quaternion, *gripper]])


def test_images_turn_by_180_degrees_and_are_not_mirrored():
    images = np.zeros((2, 28, 28, 3), dtype=np.uint8)
    images[:, 0, 1] = (255, 10, 20)  # red, first row, second column
    encoded = codec().encode_images([Observation(images=images, proprio=np.zeros(9))])
    assert encoded.shape == (1, 2, 28, 28, 3)
    assert encoded.dtype == np.uint8
    # a half turn sends (0, 1) to (27, 26); a flip alone would give (27, 1) or (0, 26)
    assert encoded[0, 0, 27, 26].tolist() == [255, 10, 20]
    assert np.count_nonzero(encoded[0, 0]) == 3


def test_images_stay_as_they_are_without_rotation():
    observation = make_observation(np.random.default_rng(0))
    encoded = codec(rotate_180=False).encode_images([observation])
    assert np.array_equal(encoded[0], observation.images)


def test_other_sizes_are_fitted_with_black_bars():
    images = np.full((1, 1, 20, 40, 3), 200, dtype=np.uint8)
    encoded = resize_with_pad(images, 28, "openpi")[0, 0]
    # 40 x 20 shrinks by 40 / 28 to 28 x 14, leaving 7 black rows above and below
    assert (encoded[7:21] == 200).all()
    assert (encoded[:7] == 0).all()
    assert (encoded[21:] == 0).all()


@pytest.mark.parametrize("order", [(28, 40), (40, 28)])
def test_an_image_does_not_depend_on_the_size_of_its_neighbors(order):
    def observation(size: int) -> Observation:
        images = np.random.default_rng(size).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
        return Observation(images=images, proprio=np.zeros(9))

    encode = codec(resize="lerobot").encode_images
    together = encode([observation(size) for size in order])

    for found, size in zip(together, order, strict=True):
        np.testing.assert_array_equal(found, encode([observation(size)])[0])


def test_missing_camera_is_refused():
    with pytest.raises(ValueError, match="2 cameras"):
        codec().encode_images([make_observation(np.random.default_rng(0), num_cameras=1)])


def test_axis_angle_of_a_quarter_turn():
    half = math.sqrt(0.5)  # sin and cos of 45 degrees: a turn of 90 degrees about z
    state = raw_state(proprio_of((0, 0, half, half)), "axis_angle")
    assert state[0] == pytest.approx([0.1, 0.2, 0.3, 0, 0, math.pi / 2, 0.04, -0.04])


def test_axis_angle_is_openpis_unwrapped_one():
    # w = -cos(45 deg): the same rotation as a quarter turn backwards, but openpi has 3/2 pi
    half = math.sqrt(0.5)
    state = raw_state(proprio_of((0, 0, half, -half)), "axis_angle")
    assert state[0, 3:6] == pytest.approx([0, 0, 1.5 * math.pi])


def test_no_rotation_has_a_zero_axis_angle():
    assert raw_state(proprio_of((0, 0, 0, 1)), "axis_angle")[0, 3:6].tolist() == [0, 0, 0]


def test_rotation6d_holds_the_first_two_columns():
    half = math.sqrt(0.5)
    state = raw_state(proprio_of((0, 0, half, half)), "rotation6d")
    # a quarter turn about z sends x to y and y to -x
    assert state[0, 3:9] == pytest.approx([0, 1, 0, -1, 0, 0])
    assert state.shape == (1, 11)


def test_rotation6d_does_not_jump_where_the_quaternion_flips_sign():
    tilted = np.array([0.7, 0.71, 0.01, 0.02])
    both = [raw_state(proprio_of(sign * tilted), "rotation6d") for sign in (1, -1)]
    assert both[0] == pytest.approx(both[1])


def test_state_is_normalized_and_padded():
    stats = small_stats()
    state = codec().encode_state(proprio_of((0, 0, 0, 1)))
    expected = (0.1 - stats.state["mean"][0]) / (stats.state["std"][0] + 1e-6)
    assert state[0, 0] == pytest.approx(expected)
    assert state.shape == (1, 12)
    assert state.dtype == np.float32
    assert state[0, 8:].tolist() == [0, 0, 0, 0]


def test_delta_actions_are_anchored_at_the_start_of_the_chunk():
    proprio = proprio_of((0, 0, 0, 1), position=(0.1, -0.2, 0.3))
    actions = codec().decode_actions(np.zeros((1, 6, 9), dtype=np.float32), proprio)
    # zero in model space is the mean; every step adds the one state the action chunk started from
    expected = small_stats().actions["mean"] + [0.1, -0.2, 0.3, 0, 0, 0, 0]
    for step in range(6):
        assert actions[0, step] == pytest.approx(expected, abs=1e-6)


def test_the_gripper_is_never_relative():
    changed = [
        codec().decode_actions(np.zeros((1, 6, 9), np.float32), proprio_of((0, 0, 0, 1), gripper=g))
        for g in ((0.0, 0.0), (0.9, 0.9))
    ]
    assert np.array_equal(changed[0], changed[1])


def test_actions_are_clipped_at_the_very_end():
    chunk = np.full((1, 6, 9), 100.0, dtype=np.float32)
    actions = codec().decode_actions(chunk, proprio_of((0, 0, 0, 1)))
    assert (actions == 1.0).all()
    assert actions.dtype == np.float32
    assert actions.shape == (1, 6, 7)


@pytest.mark.parametrize("extra_delta", [True, False])
def test_decoding_undoes_encoding(extra_delta):
    rng = np.random.default_rng(0)
    proprio = np.stack([make_observation(rng).proprio for _ in range(5)])
    actions = rng.uniform(-1, 1, (5, 6, 7)).astype(np.float32)
    some = codec(extra_delta=extra_delta)
    chunks = some.encode_actions(actions, proprio)
    assert chunks.shape == (5, 6, 9)
    assert (chunks[..., 7:] == 0).all()
    np.testing.assert_allclose(some.decode_actions(chunks, proprio), actions, atol=2e-6)


def write_stats(path, **changes):
    stats = json.loads(small_stats().to_json())["norm_stats"]
    for key, value in changes.items():
        group, name = key.split("_")
        stats[group][name] = value
    path.write_text(json.dumps({"norm_stats": stats}))
    return path


def test_statistics_survive_a_round_trip(tmp_path):
    read = read_norm_stats(write_stats(tmp_path / "norm_stats.json"), small_card())
    assert np.array_equal(read.state["mean"], small_stats().state["mean"])
    assert np.array_equal(read.actions["std"], small_stats().actions["std"])


def test_padded_statistics_are_cut(tmp_path):
    padded = [*range(1, 8), 0, 0]  # 7 real dims, then zeros up to action_dim 9
    path = write_stats(tmp_path / "norm_stats.json", actions_std=padded)
    assert read_norm_stats(path, small_card()).actions["std"].tolist() == list(range(1, 8))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"state_mean": [0.0] * 5}, "allowed lengths: 8 or 12"),
        ({"actions_std": [1.0] * 6 + [0.0]}, "must be > 0"),
        ({"actions_mean": [float("nan")] * 7}, "NaN"),
        ({"state_std": "one"}, "list of numbers"),
    ],
)
def test_bad_statistics_are_refused(tmp_path, change, complaint):
    path = write_stats(tmp_path / "norm_stats.json", **change)
    with pytest.raises(ValueError, match=complaint):
        read_norm_stats(path, small_card())


def test_absent_statistics_name_the_file_wanted(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"norm_stats\.json does not exist"):
        read_norm_stats(tmp_path / "norm_stats.json", small_card())
