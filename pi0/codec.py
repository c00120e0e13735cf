"""LIBERO <-> model space, both directions, in plain numpy.

Shape legend: B rows, N cameras, H actions per chunk, A model action dims.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pi0.config import ENV_ACTION_DIM, PolicyCard, StateEncoding, read_json
from pi0.records import Observation

DELTA_DIMS = 6
STD_EPSILON = 1e-6  # openpi's


@dataclass(frozen=True, slots=True, kw_only=True)
class NormStats:
    """Mean and standard deviation of states and actions, float64, real dims only.

    With ``extra_delta`` the action figures are those of the relative actions.

    Attributes:
        state_mean: [8] or [11].
        state_std: As ``state_mean``.
        actions_mean: [7].
        actions_std: [7].
    """

    state_mean: NDArray[np.float64]
    state_std: NDArray[np.float64]
    actions_mean: NDArray[np.float64]
    actions_std: NDArray[np.float64]

    def to_json(self) -> str:
        """Return openpi's ``norm_stats.json``."""
        state = {"mean": self.state_mean.tolist(), "std": self.state_std.tolist()}
        actions = {"mean": self.actions_mean.tolist(), "std": self.actions_std.tolist()}
        return json.dumps({"norm_stats": {"state": state, "actions": actions}}, indent=2) + "\n"


def read_norm_stats(path: Path, card: PolicyCard) -> NormStats:
    """Read openpi's ``norm_stats.json``; lengths padded to the model's width are cut."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a policy cannot run without its normalisation statistics, "
            "set norm_stats_path to openpi's norm_stats.json"
        )
    raw = read_json(path)

    def vector(group: str, key: str, width: int, padded: int) -> NDArray[np.float64]:
        try:
            values = np.asarray(raw["norm_stats"][group][key], dtype=np.float64)
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{path}: norm_stats.{group}.{key} must be a list of numbers"
            ) from None
        if values.shape not in {(width,), (padded,)}:
            raise ValueError(
                f"{path}: norm_stats.{group}.{key} has shape {values.shape}, "
                f"allowed lengths: {width} or {padded} (padded)"
            )
        if not np.isfinite(values[:width]).all():
            raise ValueError(f"{path}: norm_stats.{group}.{key} holds NaN or infinity")
        if key == "std" and not (values[:width] > 0).all():
            raise ValueError(
                f"{path}: norm_stats.{group}.std must be > 0, got {values[:width].min()}"
            )
        return values[:width]

    return NormStats(
        state_mean=vector("state", "mean", card.state_width, card.state_dim),
        state_std=vector("state", "std", card.state_width, card.state_dim),
        actions_mean=vector("actions", "mean", ENV_ACTION_DIM, card.action_dim),
        actions_std=vector("actions", "std", ENV_ACTION_DIM, card.action_dim),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """The conversions of one policy."""

    card: PolicyCard
    stats: NormStats

    def encode_images(self, observations: Sequence[Observation]) -> NDArray[np.uint8]:
        """Return upright pictures at the network's size, uint8 [B, N, size, size, 3], RGB."""
        images = np.stack([observation.images for observation in observations])
        if images.shape[1] != len(self.card.cameras):
            raise ValueError(
                f"the policy wants {len(self.card.cameras)} cameras {self.card.cameras}, "
                f"got pictures of {images.shape[1]}"
            )
        if self.card.rotate_180:
            images = images[:, :, ::-1, ::-1]
        return resize_with_pad(images, self.card.image_size)

    def encode_state(self, proprio: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return normalised states, float32 [B, state_dim], from proprio [B, 9]."""
        real = raw_state(proprio, self.card.state_encoding)
        real = (real - self.stats.state_mean) / (self.stats.state_std + STD_EPSILON)
        return _pad_last(real, self.card.state_dim)

    def encode_actions(
        self, actions: NDArray[np.floating], proprio: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return model-space chunks, float32 [B, H, A], from simulator actions [B, H, 7].

        ``proprio`` [B, 9] is the one at the start of each chunk.
        """
        relative = np.asarray(actions, dtype=np.float64) - self._anchor(proprio)
        scaled = (relative - self.stats.actions_mean) / (self.stats.actions_std + STD_EPSILON)
        return _pad_last(scaled, self.card.action_dim)

    def decode_actions(
        self, chunks: NDArray[np.float32], proprio: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Return simulator actions in [-1, 1], float32 [B, H, 7], from model-space [B, H, A]."""
        real = chunks[..., :ENV_ACTION_DIM].astype(np.float64)
        actions = real * (self.stats.actions_std + STD_EPSILON) + self.stats.actions_mean
        actions = actions + self._anchor(proprio)
        return np.clip(actions, -1.0, 1.0).astype(np.float32)

    def _anchor(self, proprio: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what relative actions are relative to, [B, 1, 7]; zeros without extra_delta."""
        anchor = np.zeros((len(proprio), 1, ENV_ACTION_DIM))
        if self.card.extra_delta:
            state = raw_state(proprio, self.card.state_encoding)
            anchor[:, 0, :DELTA_DIMS] = state[:, :DELTA_DIMS]
        return anchor


def raw_state(proprio: NDArray[np.float64], encoding: StateEncoding) -> NDArray[np.float64]:
    """Return un-normalised states [B, 8 or 11] from proprio [B, 9]: position, rotation, gripper."""
    position, quaternion, gripper = proprio[:, :3], proprio[:, 3:7], proprio[:, 7:9]
    rotation = _axis_angle(quaternion) if encoding == "axis_angle" else _rotation6d(quaternion)
    return np.concatenate([position, rotation, gripper], axis=-1)


def resize_with_pad(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Fit pictures [B, N, H, W, 3] into ``size`` x ``size`` as openpi does (bilinear, black bars)."""
    height, width = images.shape[2:4]
    if (height, width) == (size, size):
        return np.ascontiguousarray(images)
    ratio = max(width / size, height / size)
    new_height, new_width = int(height / ratio), int(width / ratio)
    top, left = (size - new_height) // 2, (size - new_width) // 2
    result = np.zeros((*images.shape[:2], size, size, 3), dtype=np.uint8)
    for row, camera in np.ndindex(*images.shape[:2]):
        picture = Image.fromarray(np.ascontiguousarray(images[row, camera]))
        small = picture.resize((new_width, new_height), resample=Image.Resampling.BILINEAR)
        result[row, camera, top : top + new_height, left : left + new_width] = np.asarray(small)
    return result


def _axis_angle(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return openpi's axis-angle [B, 3] of (x, y, z, w); angles up to 2 pi are not wrapped."""
    w = np.clip(quaternion[:, 3:], -1.0, 1.0)
    den = np.sqrt(1.0 - w * w)
    is_identity = den == 0.0
    angle = 2.0 * np.arccos(w) / np.where(is_identity, 1.0, den)
    return np.where(is_identity, 0.0, quaternion[:, :3] * angle)


def _rotation6d(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the first two columns of the rotation matrix, [B, 6]."""
    x, y, z, w = (quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)).T
    first = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y))
    second = (2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x))
    return np.stack([*first, *second], axis=-1)


def _pad_last(values: NDArray[np.float64], width: int) -> NDArray[np.float32]:
    padding = [(0, 0)] * (values.ndim - 1) + [(0, width - values.shape[-1])]
    return np.pad(values, padding).astype(np.float32)
