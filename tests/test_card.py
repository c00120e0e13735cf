"""The presets do to images, states, actions and prompts what the two projects do."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from PIL import Image

from pi0.card import PROTOCOL_OF_LAYOUT, PROTOCOLS, SHARED, PolicyCard
from pi0.codec import Codec
from pi0.images import resize_with_pad
from pi0.records import Observation
from pi0.tokenizer import PromptTokenizer, build_tiny_tokenizer
from tests.policy_parts import small_stats

RED, GREEN, BLUE = 0, 1, 2


def card(protocol: str, **changes) -> PolicyCard:
    keys = {**SHARED, **PROTOCOLS[protocol], "layout": protocol, "protocol": protocol}
    return PolicyCard(**(keys | {"image_size": 224, "dtype": "float32"} | changes))


def codec(protocol: str, **changes) -> Codec:
    return Codec(card=card(protocol, **changes), stats=small_stats())


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (1, 1, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_preset_completes_a_card(protocol):
    assert card(protocol).cameras == ("agentview", "robot0_eye_in_hand")
    assert set(PROTOCOL_OF_LAYOUT.values()) <= PROTOCOLS.keys()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_asymmetric_frame_is_turned_and_neither_mirrored_nor_recoloured(protocol):
    size = card(protocol).render_size
    images = np.zeros((2, size, size, 3), dtype=np.uint8)
    images[0, : size // 4, : size // 2, RED] = 255  # agentview: red block, upper left, wide
    images[1, size // 2 :, : size // 4, BLUE] = 255  # wrist: blue block, lower left, tall
    encoded = codec(protocol).encode_images([Observation(images=images, proprio=np.zeros(9))])[0]
    assert encoded.shape == (2, 224, 224, 3)
    # half a turn: upper left goes to lower right; 56 rows and 112 columns of 224 are red
    assert encoded[0, 170:, 114:, RED].min() == 255
    assert encoded[0, :166, :, RED].max() == 0
    assert encoded[0, :, :110, RED].max() == 0
    assert encoded[1, :110, 170:, BLUE].min() == 255
    assert encoded[1, 114:, :, BLUE].max() == 0
    assert encoded[0, ..., [GREEN, BLUE]].max() == 0
    assert encoded[1, ..., [RED, GREEN]].max() == 0


@pytest.mark.parametrize("shape", [(256, 256), (360, 360), (480, 640), (100, 224)])
def test_openpis_resize_is_pillows_pasted_on_black(shape):
    image = noise(*shape)
    height, width = shape
    ratio = max(width / 224, height / 224)
    small = (int(width / ratio), int(height / ratio))
    expected = Image.new("RGB", (224, 224))
    shrunk = Image.fromarray(image[0, 0]).resize(small, resample=Image.Resampling.BILINEAR)
    expected.paste(shrunk, ((224 - small[0]) // 2, (224 - small[1]) // 2))
    assert np.array_equal(resize_with_pad(image, 224, "openpi")[0, 0], np.asarray(expected))


@pytest.mark.parametrize("shape", [(256, 256), (360, 360), (480, 640), (100, 224)])
def test_lerobots_resize_is_torchs_interpolation_padded(shape):
    image = noise(*shape)
    ratio = max(shape[0] / 224, shape[1] / 224)
    small = [int(length / ratio) for length in shape]
    pixels = torch.from_numpy(image[0, 0]).permute(2, 0, 1)[None].float() / 255
    shrunk = F.interpolate(pixels, size=small, mode="bilinear", align_corners=False)
    top, left = ((224 - length) // 2 for length in small)
    padded = F.pad(shrunk, (left, 224 - small[1] - left, top, 224 - small[0] - top))
    expected = padded[0].permute(1, 2, 0).numpy()
    found = resize_with_pad(image, 224, "lerobot")[0, 0] / 255
    np.testing.assert_allclose(found, expected, atol=3e-5)


def test_the_two_resizes_differ_visibly():
    image = noise(256, 256)
    first, second = (resize_with_pad(image, 224, kind).astype(float) for kind in PROTOCOLS)
    assert np.abs(first - second).mean() > 1.0  # of 255


def test_state_of_a_gripper_that_points_down():
    # a turn by pi about x: quaternion (1, 0, 0, 0), axis-angle (pi, 0, 0)
    proprio = np.array([[0.1, -0.2, 0.9, 1.0, 0.0, 0.0, 0.0, 0.04, -0.04]])
    raw = np.array([0.1, -0.2, 0.9, np.pi, 0.0, 0.0, 0.04, -0.04])
    mean, std = small_stats().state["mean"], small_stats().state["std"]
    for protocol, epsilon in (("openpi", 1e-6), ("lerobot", 1e-8)):
        state = codec(protocol).encode_state(proprio)[0]
        assert state.shape == (32,)
        np.testing.assert_allclose(state[:8], (raw - mean) / (std + epsilon), rtol=1e-6, atol=1e-6)
        assert not state[8:].any()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("sent", [-1.0, 1.0])
def test_gripper_keeps_its_sign(protocol, sent):
    # LIBERO opens the gripper at -1 and closes it at +1; no preset flips or rounds it
    proprio = np.array([[0.0, 0, 0, 0, 0, 0, 1, 0.5, -0.5]])
    actions = np.zeros((1, 50, 7), dtype=np.float32)
    actions[..., 6] = sent
    some = codec(protocol)
    back = some.decode_actions(some.encode_actions(actions, proprio), proprio)
    np.testing.assert_allclose(back[..., 6], sent, atol=1e-6)
    score = some.encode_actions(actions, proprio)[0, 0, 6]
    mean, std = small_stats().actions["mean"][6], small_stats().actions["std"][6]
    assert score == pytest.approx((sent - mean) / std, rel=1e-5)


def test_only_openpi_reads_actions_relative_to_the_start():
    proprio = np.array([[0.2, 0.1, -0.1, 0, 0, 0, 1, 0, 0]])
    chunk = np.zeros((1, 50, 32), dtype=np.float32)  # zero in model space is the mean
    mean = small_stats().actions["mean"]
    relative, absolute = (codec(p).decode_actions(chunk, proprio)[0] for p in PROTOCOLS)
    start = np.array([0.2, 0.1, -0.1, 0, 0, 0, 0])
    # the last action of the chunk is anchored where the first one is
    for step in (0, 49):
        np.testing.assert_allclose(relative[step], mean + start, atol=1e-6)
        np.testing.assert_allclose(absolute[step], mean, atol=1e-6)


def test_only_openpi_cleans_the_instruction():
    def ids(prompt_format: str, task: str) -> list[int]:
        prompts = PromptTokenizer(
            build_tiny_tokenizer(["open", "it"]),
            image_token_id=4,
            num_image_tokens=0,
            max_prompt_tokens=20,
            prompt_format=prompt_format,
        )
        ids, is_valid = prompts.encode([task], np.zeros((1, 8)))
        return ids[0][is_valid[0]].tolist()

    begin, newline, words, underscore = 2, 5 + 0x0A, [262, 261], 5 + ord("_")
    assert ids("openpi", " open_it\n") == [begin, *words, newline]
    assert ids("lerobot", "open it") == [begin, *words, newline]
    assert ids("lerobot", "open it\n") == [begin, *words, newline]
    assert underscore in ids("lerobot", "open_it")
