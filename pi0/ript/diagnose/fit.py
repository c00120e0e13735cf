"""Does a loaded policy fit LIBERO? Its statistics beside LIBERO's, and its first action chunk.

A policy that is fed wrong numbers fails silently: 0 % success and no error. What is measured here shows why.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pi0.codec import GRIPPER, raw_state
from pi0.norm_stats import NEEDED, Statistics
from pi0.policy import Pi0Policy
from pi0.records import Observation, Sampling
from pi0.ript.diagnose.finding import Finding

ROTATIONS = {
    "axis_angle": ("rotation x", "rotation y", "rotation z"),
    "rotation6d": ("row 1 x", "row 1 y", "row 1 z", "row 2 x", "row 2 y", "row 2 z"),
}
ACTIONS = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")
# Means and standard deviations of the states of LIBERO's four suites: the statistics of openpi's pi0_libero.
LIBERO_STATE = {
    "position x": (-0.0462, 0.1050),
    "position y": (0.0340, 0.1519),
    "position z": (0.7647, 0.3785),
    "rotation x": (2.9714, 0.3452),
    "rotation y": (-0.2198, 0.9101),
    "rotation z": (-0.1261, 0.3253),
    "finger 1": (0.0269, 0.0142),
    "finger 2": (-0.0272, 0.0140),
}
MOST_DEVIATIONS = 4.0  # a center further away is of another robot, unit or order
WIDEST = 4.0  # times LIBERO's deviation; tasks that move less are common, more is another unit
MOST_STATE = 10.0  # a normalized number of the state beyond it was never trained
STD_OF_QUANTILES = {"quantile": 4.65, "quantile10": 2.56, "min_max": 4.0}  # width in deviations
LEAST_EFFECT = 1e-3  # of actions in [-1, 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One number of a state or an action in the policy's statistics.

    Attributes:
        name: What it is.
        center: Mean, or the middle of the two quantiles.
        spread: Standard deviation, estimated from the width between quantiles.
        expected: The same two of LIBERO; None where nothing is known.
    """

    name: str
    center: float
    spread: float
    expected: tuple[float, float] | None

    @property
    def fits(self) -> bool:
        """Return whether LIBERO can be what the statistics were computed of."""
        if self.expected is None:
            return True
        center, spread = self.expected
        is_near = abs(self.center - center) <= MOST_DEVIATIONS * spread
        return is_near and 0.0 < self.spread <= WIDEST * spread


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstChunk:
    """What a policy does with one observation.

    Attributes:
        state: Float64 [n], the normalized real numbers of the state.
        actions: Float32 [h, 7] in [-1, 1], what would be executed.
        noise_effect: Mean absolute change of the actions when only the initial noise is another.
        image_effect: The same when the images are black.
        instruction_effect: The same when the instruction is another sentence.
    """

    state: NDArray[np.float64]
    actions: NDArray[np.float32]
    noise_effect: float
    image_effect: float
    instruction_effect: float


def state_ranges(policy: Pi0Policy) -> list[Range]:
    """Return the statistics of the state beside LIBERO's, in the order of the state."""
    rotations = ROTATIONS[policy.card.state_encoding]
    names = ("position x", "position y", "position z", *rotations, "finger 1", "finger 2")
    return _ranges(policy, policy.codec.stats.state, names, LIBERO_STATE)


def action_ranges(policy: Pi0Policy) -> list[Range]:
    """Return the statistics of the actions; relative ones are of another kind for every policy."""
    half = 1.0 if policy.card.gripper == "libero" else 0.5
    gripper = (1.0 - half, half)
    absolute = {} if policy.card.extra_delta else dict.fromkeys(ACTIONS[:GRIPPER], (0.0, 0.5))
    expected = absolute | {ACTIONS[GRIPPER]: gripper}
    return _ranges(policy, policy.codec.stats.actions, ACTIONS, expected)


def first_chunk(policy: Pi0Policy, observation: Observation, task: str, seed: int) -> FirstChunk:
    """Let a policy act once, and again with one thing changed at a time."""
    dark = replace(observation, images=np.zeros_like(observation.images))
    other = "close the door" if "door" not in task else "open the drawer"
    cases = [(observation, task, seed), (observation, task, seed + 1)]
    cases += [(dark, task, seed), (observation, other, seed)]
    observations, tasks, seeds = zip(*cases, strict=True)
    sampling = Sampling(num_steps=policy.card.denoise_steps)
    chunks = policy.act(observations, tasks, seeds, sampling)
    actions = [chunk.actions for chunk in chunks]
    noise, image, instruction = (float(np.abs(each - actions[0]).mean()) for each in actions[1:])
    encoded = policy.codec.encode_state(observation.proprio[None]).astype(np.float64)
    return FirstChunk(
        state=encoded[0, : policy.card.state_width],
        actions=actions[0],
        noise_effect=noise,
        image_effect=image,
        instruction_effect=instruction,
    )


def check_fit(policy: Pi0Policy, observation: Observation, chunk: FirstChunk) -> Iterator[Finding]:
    """Yield what does not fit LIBERO, the likeliest cause of silent failure first."""
    for ranges, group in ((state_ranges(policy), "state"), (action_ranges(policy), "actions")):
        yield from (_misfit(each, group) for each in ranges if not each.fits)
    yield from _check_state(policy, observation, chunk)
    yield from _check_actions(chunk)


def _misfit(entry: Range, group: str) -> Finding:
    assert entry.expected is not None, entry.name
    center, spread = entry.expected
    return Finding(
        name=f"statistics of {group}",
        status="error",
        text=f"{entry.name} is {entry.center:.3g} +- {entry.spread:.3g}, LIBERO's is {center:.3g} +- {spread:.3g}",
        fix="--norm_stats_path FILE with the statistics that the policy was trained with on LIBERO",
    )


def _check_state(
    policy: Pi0Policy, observation: Observation, chunk: FirstChunk
) -> Iterator[Finding]:
    worst = int(np.abs(chunk.state).argmax())
    if np.abs(chunk.state[worst]) <= MOST_STATE:
        return
    raw = raw_state(observation.proprio[None], policy.card.state_encoding)[0, worst]
    name = state_ranges(policy)[worst].name
    yield Finding(
        name="state of the observation",
        status="error",
        text=f"{name} {raw:.3f} becomes {chunk.state[worst]:.1f} after normalization, trained were about -3 to 3",
        fix="compare norm_mode and the statistics with those of the training (--override norm_mode=...)",
    )


def _check_actions(chunk: FirstChunk) -> Iterator[Finding]:
    moves = chunk.actions[:, :GRIPPER]
    saturated = float((np.abs(moves) >= 1.0).mean())
    if saturated > 0.5:
        yield Finding(
            name="first action chunk",
            status="error",
            text=f"{saturated:.0%} of its movements are cut off at -1 or 1",
            fix="--override extra_delta=true or false: relative and absolute actions are mixed up",
        )
    if chunk.image_effect < LEAST_EFFECT:
        yield Finding(
            name="images",
            status="error",
            text=f"black images change the actions by {chunk.image_effect:.1g} only",
            fix="check the weights of vision tower and projector: the policy does not see",
        )
    if chunk.instruction_effect < LEAST_EFFECT:
        yield Finding(
            name="instruction",
            status="warning",
            text=f"another instruction changes the actions by {chunk.instruction_effect:.1g} only",
            fix="nothing for a policy of one task; else check the tokenizer (--tokenizer_path)",
        )


def _ranges(
    policy: Pi0Policy,
    statistics: Statistics,
    names: Sequence[str],
    expected: dict[str, tuple[float, float]],
) -> list[Range]:
    mode = policy.card.norm_mode
    first, second = (statistics[name] for name in NEEDED[mode])
    center = first if mode == "z_score" else (first + second) / 2.0
    spread = second if mode == "z_score" else (second - first) / STD_OF_QUANTILES[mode]
    return [
        Range(name=name, center=float(c), spread=float(s), expected=expected.get(name))
        for name, c, s in zip(names, center, spread, strict=True)
    ]
