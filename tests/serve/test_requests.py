import numpy as np
import pytest

from pi0.ript.serve.protocol import BadRequestError
from pi0.ript.serve.requests import read_request, require_served
from tests.policy_parts import raises_one_line
from tests.serve.servers import CAMERAS, request_values


def test_request_of_openpis_client_is_read():
    values = request_values()
    request = read_request(values, CAMERAS, seed=5)
    assert np.array_equal(request.observation.images[0], values["observation/image"])
    assert np.array_equal(request.observation.images[1], values["observation/wrist_image"])
    assert np.array_equal(request.observation.state, values["observation/state"])
    assert (request.prompt, request.seed) == ("open the drawer", 5)


def test_seed_of_the_client_wins():
    assert read_request(request_values() | {"seed": 2**63 - 1}, CAMERAS, 5).seed == 2**63 - 1


def test_policy_with_one_camera_leaves_the_other_image_unread():
    request = read_request(request_values(), ("agentview",), 0)
    assert len(request.observation.images) == 1


def test_floats_and_leading_channels_are_read_as_openpis_server_reads_them():
    values = request_values()
    image = values["observation/image"]
    as_floats = image.transpose(2, 0, 1) / 255.0
    # 255 * (200 / 255) may be 199.99..; openpi truncates, and so do we
    request = read_request(values | {"observation/image": as_floats}, CAMERAS, 0)
    expected = (255 * as_floats).astype(np.uint8).transpose(1, 2, 0)
    assert np.array_equal(request.observation.images[0], expected)


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("observation/image", None, "got None"),
        ("observation/image", np.zeros((32, 32), np.uint8), "got uint8 [32, 32]"),
        ("observation/image", np.zeros((32, 32, 4), np.uint8), "got uint8 [32, 32, 4]"),
        ("observation/image", np.zeros((8, 32, 3), np.uint8), "16 to 2048 pixels"),
        ("observation/image", np.zeros((32, 32, 3), np.int32), "must be uint8, or floats"),
        ("observation/image", np.full((32, 32, 3), 1.5), "floats between 0 and 1"),
        ("observation/image", np.full((32, 32, 3), np.nan), "floats between 0 and 1"),
        ("observation/state", np.zeros(7), "must be 8 numbers"),
        ("observation/state", np.zeros((1, 8)), "got float64 [1, 8]"),
        ("observation/state", [0.0] * 9, "got list of length 9"),
        ("observation/state", ["0"] * 8, "must be 8 numbers"),
        ("observation/state", np.array([0, 0, 0, 0, np.inf, 0, 0, 0]), "is not finite"),
        ("prompt", "", "an instruction"),
        ("prompt", "x" * 1001, "got str of length 1001"),
        ("prompt", 3, "got 3"),
        ("seed", -1, "got -1"),
        ("seed", True, "got True"),
        ("seed", 2**63, "in [0, 2**63)"),
        ("observation/joint_position", np.zeros(7), "unknown key 'observation/joint_position'"),
    ],
)
def test_value_that_cannot_be_used_is_named(key, value, what):
    with pytest.raises(BadRequestError) as error:
        read_request(request_values() | {key: value}, CAMERAS, 0)
    assert raises_one_line(error.value, key, what)


@pytest.mark.parametrize("key", request_values())
def test_missing_key_is_named_with_all_that_are_read(key):
    values = request_values()
    del values[key]
    with pytest.raises(BadRequestError) as error:
        read_request(values, CAMERAS, 0)
    assert raises_one_line(error.value, f"{key!r} is missing", *request_values())


def test_policy_with_a_camera_that_nobody_sends_is_refused():
    with pytest.raises(ValueError, match="'frontview'") as error:
        require_served(("agentview", "frontview"))
    assert raises_one_line(error.value, "agentview, robot0_eye_in_hand")
