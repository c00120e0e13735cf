"""Settings that win over what a checkpoint's files and its protocol say."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PolicyOverrides:
    """Keys of the policy card; null takes what the checkpoint or its protocol says.

    Attributes:
        horizon: H, actions per chunk.
        execute_steps: h, actions executed before the policy looks again.
        action_dim: A, action width of the network, padding included.
        state_dim: State width of the network, padding included.
        cameras: LIBERO camera names in the order the network was trained with; empty takes the checkpoint's.
        render_size: Height and width in pixels of the pictures asked of the simulator.
        render_quality: ``exact`` gives LIBERO's own pixels, ``fast`` is right only for a policy trained so.
        rotate_180: Turn LIBERO's upside-down pictures by 180 degrees.
        resize: ``openpi`` shrinks with antialiasing, ``lerobot`` interpolates without.
        extra_delta: The first six actions are relative to the state at the start of the chunk.
        norm_mode: Which figures of the statistics are used.
        norm_formula: Whose epsilons are added to the scales.
        prompt_format: ``openpi`` cleans the instruction, ``lerobot`` takes it as it is.
        max_prompt_tokens: Prompt length after padding.
        dtype: Precision of the vision-language model.
    """

    horizon: int | None = None
    execute_steps: int | None = None
    action_dim: int | None = None
    state_dim: int | None = None
    cameras: tuple[str, ...] = ()
    render_size: int | None = None
    render_quality: Literal["exact", "fast"] | None = None
    rotate_180: bool | None = None
    resize: Literal["openpi", "lerobot"] | None = None
    extra_delta: bool | None = None
    norm_mode: Literal["z_score", "quantile", "quantile10", "min_max"] | None = None
    norm_formula: Literal["openpi", "lerobot"] | None = None
    prompt_format: Literal["openpi", "lerobot"] | None = None
    max_prompt_tokens: int | None = None
    dtype: Literal["float32", "bfloat16"] | None = None

    def chosen(self) -> dict[str, object]:
        """Return only what is set."""
        return {key: value for key, value in vars(self).items() if value not in (None, ())}
