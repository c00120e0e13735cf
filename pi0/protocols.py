"""The two ways in which pi0 was taught LIBERO, as presets of the policy card.

openpi:   examples/libero/main.py, libero_policy.py and the training configuration pi0_libero.
lerobot:  envs/libero.py, env_processor.py and processor_pi0.py, evaluated as its documentation says.

Both rotate both pictures by 180 degrees, give the 8-d state (position, unwrapped axis-angle, two finger
positions), take 7-d actions whose last number opens the gripper at -1 and closes it at +1, and never show
the third camera of pi0: the network gives the same answer without its masked place.
"""

from collections.abc import Mapping
from typing import Any

from pi0.config import Layout, Protocol

SHARED: Mapping[str, Any] = {
    "horizon": 50,
    "action_dim": 32,
    "state_dim": 32,
    "cameras": ("agentview", "robot0_eye_in_hand"),
    "render_quality": "exact",
    "state_encoding": "axis_angle",
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
# transformers' weights on the Hub are LeRobot's.
PROTOCOL_OF_LAYOUT: Mapping[Layout, Protocol] = {
    "native": "openpi",
    "openpi": "openpi",
    "rlinf": "openpi",
    "lerobot": "lerobot",
    "transformers": "lerobot",
    "transformers_saved": "lerobot",
}
