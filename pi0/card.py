"""The policy card: what a policy must be given and what its action chunks mean; published presets of it.

openpi:   examples/libero/main.py, libero_policy.py and the training configurations pi0_libero and pi05_libero.
lerobot:  envs/libero.py, env_processor.py and processor_pi0.py, evaluated as its documentation says.

Both rotate both images by 180 degrees, give the 8-d state (position, unwrapped axis-angle, two finger
positions), take 7-d actions whose last number opens the gripper at -1 and closes it at +1, and never show
the third camera of pi0: the network gives the same action chunk without its masked slot. LeRobot does not say
how many numbers of the state a pi0.5's prompts hold; 0.5 made it 8, after 32.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pi0.files import read_json
from pi0.records import ImageEncoding, ObservationSpec, RenderQuality

StateEncoding = Literal["axis_angle", "rotation6d"]
NetworkDtype = Literal["float32", "bfloat16"]
Layout = Literal[
    "native", "openpi", "rlinf", "jax", "lerobot", "transformers", "transformers_saved"
]
Protocol = Literal["openpi", "lerobot"]
NormMode = Literal["z_score", "quantile", "quantile10", "min_max"]
NormFormula = Literal["openpi", "lerobot"]
Resize = Literal["openpi", "lerobot"]
PromptFormat = Literal["openpi", "lerobot"]
Gripper = Literal["libero", "one_opens", "one_closes"]
PromptState = Literal["none", "8", "32"]
NormStatsOf = Literal["checkpoint", "data"]

ENV_ACTION_DIM = 7
_COUNTS = ("horizon", "render_size", "image_size", "max_prompt_tokens", "denoise_steps")
_MOST = 100_000  # more is a slip, found here instead of by a full memory
STATE_DIMS: dict[StateEncoding, int] = {"axis_angle": 8, "rotation6d": 11}

SHARED: Mapping[str, Any] = {
    "horizon": 50,
    "action_dim": 32,
    "state_dim": 32,
    "cameras": ("agentview", "robot0_eye_in_hand"),
    "render_quality": "exact",
    "state_encoding": "axis_angle",
    "gripper": "libero",
    "norm_stats_of": "checkpoint",
    "prompt_state": "none",
    "max_prompt_tokens": 48,
    "denoise_steps": 10,
}
PROTOCOLS: Mapping[Protocol, Mapping[str, Any]] = {
    "openpi": {
        "execute_steps": 5,
        "render_size": 256,
        "rotate_180": True,
        "resize": "openpi",
        "extra_delta": True,
        "norm_mode": "z_score",
        "norm_formula": "openpi",
        "prompt_format": "openpi",
    },
    "lerobot": {
        "execute_steps": 10,
        "render_size": 360,
        "rotate_180": True,
        "resize": "lerobot",
        "extra_delta": False,
        "norm_mode": "z_score",
        "norm_formula": "lerobot",
        "prompt_format": "lerobot",
    },
}
# What is otherwise in a pi0.5; ``prompt_state`` of LeRobot's must be said.
PI05: Mapping[Protocol, Mapping[str, Any]] = {
    "openpi": {
        "horizon": 10,
        "extra_delta": False,
        "norm_mode": "quantile",
        "max_prompt_tokens": 200,
    },
    "lerobot": {"norm_mode": "quantile", "max_prompt_tokens": 200},
}
# Keys younger than the files that lack them, with what those files meant.
ADDED_KEYS: Mapping[str, Any] = {
    "gripper": "libero",
    "prompt_state": "none",
    "norm_stats_of": "checkpoint",
}
# transformers' weights on the Hub are LeRobot's.
PROTOCOL_OF_LAYOUT: Mapping[Layout, Protocol] = {
    "native": "openpi",
    "openpi": "openpi",
    "rlinf": "openpi",
    "jax": "openpi",
    "lerobot": "lerobot",
    "transformers": "lerobot",
    "transformers_saved": "lerobot",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyCard:
    """What a policy is given of LIBERO and how its action chunks are read.

    Attributes:
        layout: The kind of folder in which the weights first arrived.
        protocol: The preset that the keys below started from (``pi0.card``).
        horizon: H, actions per chunk.
        execute_steps: h, actions executed before the policy observes again; at most ``horizon``.
        action_dim: A, action width of the network; 7 real dims, the rest is padding.
        state_dim: State width of the network; shorter states are padded with zeros.
        cameras: LIBERO camera names, in the order the network was trained with.
        render_size: Height and width in pixels of the images that the simulator draws.
        image_size: Height and width in pixels of the images given to the network.
        render_quality: ``exact`` or ``fast``, see ``ObservationSpec``.
        rotate_180: Turn LIBERO's upside-down images by 180 degrees, as openpi does.
        resize: ``openpi`` shrinks with antialiasing to whole pixel values (Pillow); ``lerobot``
            interpolates between the four nearest pixels and keeps fractions (torch).
        state_encoding: ``axis_angle`` is openpi's 8-d state; ``rotation6d`` is 11-d and continuous.
        extra_delta: The first six actions are relative to the state at the start of the action chunk.
        gripper: The last action of the network: ``libero`` opens at -1 and closes at +1; data that came
            through RLDS have 0 to 1, where ``one_opens`` (OpenVLA's LIBERO data) or ``one_closes``.
        norm_mode: Which statistics are used: mean and std, 1 % and 99 % quantiles,
            10 % and 90 % quantiles, or smallest and largest value.
        norm_formula: ``openpi`` adds 1e-6 to every scale; ``lerobot`` adds 1e-8 to std on the way
            to the model only.
        norm_stats_of: Where the statistics are from: ``checkpoint``, they came with the weights, or ``data``,
            ``ript sft`` computed them from demonstrations.
        prompt_format: ``openpi`` strips the instruction and replaces underscores and line breaks;
            ``lerobot`` takes it as it is. A prompt with the state in it is cleaned in both.
        prompt_state: How many normalized numbers of the state stand in the prompt, in words of 256 bins
            (pi0.5): ``none``, ``8`` (LIBERO's) or ``32`` (padding too: LeRobot before 0.5).
        max_prompt_tokens: Prompt length after padding, begin and end tokens included.
        denoise_steps: S, denoise steps the policy was trained with; evaluations and exports follow it.
        dtype: Precision of the vision-language model; the action expert is always float32.
    """

    layout: Layout
    protocol: Protocol
    horizon: int
    execute_steps: int
    action_dim: int
    state_dim: int
    cameras: tuple[str, ...]
    render_size: int
    image_size: int
    render_quality: RenderQuality
    rotate_180: bool
    resize: Resize
    state_encoding: StateEncoding
    extra_delta: bool
    gripper: Gripper
    norm_mode: NormMode
    norm_formula: NormFormula
    norm_stats_of: NormStatsOf
    prompt_format: PromptFormat
    prompt_state: PromptState
    max_prompt_tokens: int
    denoise_steps: int
    dtype: NetworkDtype

    def __post_init__(self) -> None:
        _check_types(self)
        for name in _COUNTS:
            _require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        for name in (*_COUNTS, "action_dim", "state_dim"):
            _require(getattr(self, name) <= _MOST, name, getattr(self, name), f"<= {_MOST}")
        _require(
            1 <= self.execute_steps <= self.horizon,
            "execute_steps",
            self.execute_steps,
            f"in [1, horizon = {self.horizon}]",
        )
        _require(self.action_dim >= ENV_ACTION_DIM, "action_dim", self.action_dim, ">= 7")
        _require(bool(self.cameras), "cameras", self.cameras, "at least one camera name")
        is_once = len(set(self.cameras)) == len(self.cameras)
        _require(is_once, "cameras", self.cameras, "a list that names each camera once")
        needed = STATE_DIMS[self.state_encoding]
        _require(
            self.state_dim >= needed,
            "state_dim",
            self.state_dim,
            f">= {needed} for {self.state_encoding}",
        )
        _require(
            not self.extra_delta or self.state_encoding == "axis_angle",
            "extra_delta",
            self.extra_delta,
            "false unless state_encoding is axis_angle",
        )
        allowed = [number for number in get_args(PromptState) if self._can_show(number)]
        _require(
            self.prompt_state in allowed, "prompt_state", self.prompt_state, " or ".join(allowed)
        )

    @property
    def encoding(self) -> ImageEncoding | None:
        """Return what simulators can make of images beforehand; None where there is nothing worth it.

        LeRobot's filter makes numbers between whole ones, which take four times the room.
        """
        if self.resize != "openpi" or self.render_size == self.image_size:
            return None
        return ImageEncoding(size=self.image_size, rotate_180=self.rotate_180)

    @property
    def spec(self) -> ObservationSpec:
        """Return which images a simulator renders for the policy."""
        size = self.render_size
        return ObservationSpec(
            cameras=self.cameras, height=size, width=size, quality=self.render_quality
        )

    @property
    def state_width(self) -> int:
        """Return how many state numbers are real (the rest of ``state_dim`` is padding)."""
        return STATE_DIMS[self.state_encoding]

    @property
    def prompt_state_dim(self) -> int:
        """Return how many numbers of the state stand in the prompt."""
        return 0 if self.prompt_state == "none" else int(self.prompt_state)

    def _can_show(self, number: str) -> bool:
        """A prompt holds LIBERO's eight numbers, or what they are padded to."""
        if number == "none":
            return True
        return self.state_encoding == "axis_angle" and self.state_dim >= int(number)

    def to_json(self) -> str:
        """Return the card as indented JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_policy_card(path: Path) -> PolicyCard:
    """Read ``policy.json``; a missing, unknown or ill-typed key is an error that names it.

    Keys that this project added later may be missing (``ADDED_KEYS``).
    """
    raw = {**ADDED_KEYS, **read_json(path)}
    known = {field.name for field in fields(PolicyCard)}
    for key in sorted(raw.keys() - known):
        raise ValueError(f"{path}: unknown key {key!r}; allowed keys: {', '.join(sorted(known))}")
    for key in sorted(known - raw.keys()):
        raise ValueError(f"{path}: key {key!r} is missing; add it (see pi0/card.py)")
    if isinstance(raw["cameras"], list):
        raw["cameras"] = tuple(raw["cameras"])
    try:
        return PolicyCard(**raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _require(condition: bool, key: str, value: object, allowed: str) -> None:  # noqa: FBT001
    if not condition:
        raise ValueError(f"key {key!r} must be {allowed}, got {value!r}")


def _check_types(card: PolicyCard) -> None:
    for key, hint in get_type_hints(PolicyCard).items():
        value = getattr(card, key)
        if get_origin(hint) is Literal:
            _require(value in get_args(hint), key, value, f"one of {', '.join(get_args(hint))}")
        elif get_origin(hint) is tuple:
            is_names = isinstance(value, tuple) and all(isinstance(name, str) for name in value)
            _require(is_names, key, value, "a list of names")
        else:
            # bool is a subclass of int, and `"horizon": true` must not count as 1
            _require(type(value) is hint, key, value, f"of type {hint.__name__}")
