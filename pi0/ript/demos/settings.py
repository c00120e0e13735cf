"""How demonstrations are made."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """How demonstrations are made.

    The defaults made the embedded policy.

    Attributes:
        per_task: Successful episodes kept per task.
        max_attempts: Episodes tried per task at most.
        max_steps: Control steps per episode; None is the suite's own limit.
        frame_every: Control steps between kept frames.
        horizon: H, actions per action chunk.
        action_noise: Largest std of the noise on executed position deltas; each episode draws its own
            level. The label stays the expert's own action, so the data shows how to recover.
        num_held_out_states: Initial states without demonstrations (the last n of 50).
        fixture_seed: Seeds the fixture poses of all attempts; None draws a seed for each.
        seed: Seeds states and noise.
    """

    per_task: int = 30
    max_attempts: int = 100
    max_steps: int | None = None
    frame_every: int = 3
    horizon: int = 10
    action_noise: float = 0.3
    num_held_out_states: int = 20
    fixture_seed: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySettings:
    """How recordings are played again.

    Attributes:
        suite: LIBERO suite that they are of.
        most: Demonstrations per task that are played at most, in order; None for all.
        fixture_seed: Seeds the fixture poses, which recordings do not say; 0 is what the public sets used.
    """

    suite: str
    most: int | None = None
    fixture_seed: int = 0
