"""LIBERO <-> model space, both directions, in plain numpy.

Shape legend: B samples, N cameras, H actions per chunk, A model action dims.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pi0.card import ENV_ACTION_DIM, Gripper, PolicyCard, StateEncoding
from pi0.images import resize_with_pad, turned
from pi0.norm_stats import NormStats, Statistics, normalize, unnormalize
from pi0.records import Observation

DELTA_DIMS = 6
GRIPPER = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """The conversions of one policy."""

    card: PolicyCard
    stats: NormStats

    def encode_images(
        self, observations: Sequence[Observation]
    ) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Return upright images at the network's size, [B, N, size, size, 3], RGB in [0, 255].

        uint8, or float32 where the ``lerobot`` resize makes values between whole numbers.
        """
        first = self._encode(observations[0])
        encoded: NDArray[Any] = np.empty((len(observations), *first.shape), first.dtype)
        encoded[0] = first
        for sample, observation in enumerate(observations[1:], 1):
            images = self._encode(observation)
            if (both := np.result_type(encoded, images)) != encoded.dtype:
                encoded = encoded.astype(both)  # images of several sizes: whole numbers and float32
            encoded[sample] = images
        return encoded

    def encode_state(self, proprio: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return normalized states, float32 [B, state_dim], from proprio [B, 9]."""
        real = raw_state(proprio, self.card.state_encoding)
        return _pad_last(self._normalize(real, self.stats.state), self.card.state_dim)

    def encode_actions(
        self, actions: NDArray[np.floating], proprio: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return model-space action chunks, float32 [B, H, A], from simulator actions [B, H, 7].

        ``proprio`` [B, 9] is the one at the start of each action chunk.
        """
        relative = self.relative_actions(actions, proprio)
        return _pad_last(self._normalize(relative, self.stats.actions), self.card.action_dim)

    def relative_actions(
        self, actions: NDArray[np.floating], proprio: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return what statistics of actions are of, float64 [B, H, 7]: model-space actions, not normalized."""
        relative = np.asarray(actions, dtype=np.float64) - self._anchor(proprio)
        relative[..., GRIPPER] = _gripper_of_data(relative[..., GRIPPER], self.card.gripper)
        return relative

    def decode_actions(
        self, chunks: NDArray[np.float32], proprio: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return simulator actions in [-1, 1], float32 [B, H, 7], from model-space [B, H, A]."""
        real = chunks[..., :ENV_ACTION_DIM].astype(np.float64)
        card = self.card
        actions = unnormalize(real, self.stats.actions, card.norm_mode, card.norm_formula)
        actions = actions + self._anchor(proprio)
        actions[..., GRIPPER] = _gripper_of_libero(actions[..., GRIPPER], card.gripper)
        return np.clip(actions, -1.0, 1.0).astype(np.float32)

    def _encode(self, observation: Observation) -> NDArray[np.uint8] | NDArray[np.float32]:
        images = observation.images
        if len(images) != len(self.card.cameras):
            raise ValueError(
                f"the policy needs {len(self.card.cameras)} cameras {self.card.cameras}, "
                f"got images of {len(images)}"
            )
        if observation.encoding is not None:
            return images
        if self.card.rotate_180:
            images = turned(images)
        return resize_with_pad(images[None], self.card.image_size, self.card.resize)[0]

    def _normalize(
        self, values: NDArray[np.float64], statistics: Statistics
    ) -> NDArray[np.float64]:
        return normalize(values, statistics, self.card.norm_mode, self.card.norm_formula)

    def _anchor(self, proprio: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what relative actions are relative to, [B, 1, 7]; zeros without extra_delta."""
        anchor = np.zeros((len(proprio), 1, ENV_ACTION_DIM))
        if self.card.extra_delta:
            state = raw_state(proprio, self.card.state_encoding)
            anchor[:, 0, :DELTA_DIMS] = state[:, :DELTA_DIMS]
        return anchor


def _gripper_of_libero(values: NDArray[np.float64], meaning: Gripper) -> NDArray[np.float64]:
    """Return the gripper as LIBERO reads it, -1 opens and +1 closes, from what the data meant."""
    if meaning == "libero":
        return values
    closed = values if meaning == "one_closes" else 1.0 - values
    return 2.0 * closed - 1.0


def _gripper_of_data(values: NDArray[np.float64], meaning: Gripper) -> NDArray[np.float64]:
    """Invert ``_gripper_of_libero``."""
    if meaning == "libero":
        return values
    closed = (values + 1.0) / 2.0
    return closed if meaning == "one_closes" else 1.0 - closed


def raw_state(proprio: NDArray[np.float64], encoding: StateEncoding) -> NDArray[np.float64]:
    """Return un-normalized states [B, 8 or 11], position, rotation, gripper.

    Args:
        proprio: [B, 9] as in ``Observation``, or [B, 8] as clients of a policy server send it, with an
            axis-angle in place of the quaternion; such a state stands as it is.
        encoding: How the rotation is written.
    """
    position, rotation, gripper = proprio[:, :3], proprio[:, 3:-2], proprio[:, -2:]
    is_quaternion = rotation.shape[1] == 4
    if encoding == "axis_angle":
        rotation = _axis_angle(rotation) if is_quaternion else rotation
    else:
        rotation = _rotation6d(rotation if is_quaternion else _quaternion(rotation))
    return np.concatenate([position, rotation, gripper], axis=-1)


def _axis_angle(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return openpi's axis-angle [B, 3] of (x, y, z, w); angles up to 2 pi are not wrapped."""
    w = np.clip(quaternion[:, 3:], -1.0, 1.0)
    den = np.sqrt(1.0 - w * w)
    is_identity = den == 0.0
    angle = 2.0 * np.arccos(w) / np.where(is_identity, 1.0, den)
    return np.where(is_identity, 0.0, quaternion[:, :3] * angle)


def _quaternion(axis_angle: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (x, y, z, w) of axis-angles [B, 3]."""
    angle = np.linalg.norm(axis_angle, axis=-1, keepdims=True)
    # numpy's sinc(x) is sin(pi x) / (pi x), and 1 at 0
    return np.concatenate(
        [0.5 * np.sinc(angle / (2 * np.pi)) * axis_angle, np.cos(angle / 2)], axis=-1
    )


def _rotation6d(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first two columns of the rotation matrix, [B, 6]."""
    x, y, z, w = (quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)).T
    first = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    second = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    return np.stack([*first, *second], axis=-1)


def _pad_last(values: NDArray[np.float64], width: int) -> NDArray[np.float32]:
    padding = [(0, 0)] * (values.ndim - 1) + [(0, width - values.shape[-1])]
    return np.pad(values, padding).astype(np.float32)
