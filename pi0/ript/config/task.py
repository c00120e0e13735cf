"""Settings of which tasks are trained on."""

from dataclasses import dataclass
from typing import Literal

from pi0.ript.config.base import Auto, require

TaskName = str | int
Fixtures = Literal["per_episode", "fixed"]

DEFAULT_HELD_OUT = 20
STATES_PER_TASK = 50
MAX_NUMPY_SEED = 2**32


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Which tasks are trained on, and how their episodes run.

    Attributes:
        benchmark_name: LIBERO suite, e.g. ``libero_goal``.
        task_name: One task by name or index; ``task_names_to_use`` is used where it is null.
        task_names_to_use: Several tasks by name or index; empty means all tasks of the suite. A task of
            another suite is named with it: ``libero_object/0``.
        num_parallel_envs: Simulator slots of the parallel runner (the serial one has one); ``auto`` chooses
            from cores, memory and K, and says what it chose.
        max_episode_length: Control steps per episode after settling; null takes the suite's limit in the
            policy's protocol.
        num_steps_wait: Settling steps before the policy acts.
        num_held_out_states: The last n of LIBERO's 50 initial states per task are never trained on;
            evaluation uses only those.
        fixtures: Where fixtures (stove, cabinet, rack) stand, which LIBERO's initial states do not contain.
            ``per_episode``: drawn anew for every held-out episode and for every group of rollouts, whose
            K siblings share the draw, as published protocols do; ``fixed``: the same always.
        fixture_seed: Seeds their poses under ``fixed``, where null means 0; null under ``per_episode``.
    """

    benchmark_name: str = "libero_goal"
    task_name: TaskName | None = None
    task_names_to_use: tuple[TaskName, ...] = ()
    num_parallel_envs: int | Auto = "auto"
    max_episode_length: int | None = None
    num_steps_wait: int = 10
    num_held_out_states: int = DEFAULT_HELD_OUT
    fixtures: Fixtures = "per_episode"
    fixture_seed: int | None = None

    def __post_init__(self) -> None:
        require(
            self.num_parallel_envs == "auto" or self.num_parallel_envs >= 1,
            f"task.num_parallel_envs must be >= 1 or auto, got {self.num_parallel_envs}",
        )
        require(
            self.max_episode_length is None or self.max_episode_length >= 1,
            f"task.max_episode_length must be >= 1 or null, got {self.max_episode_length}",
        )
        require(
            self.num_steps_wait >= 0, f"task.num_steps_wait must be >= 0, got {self.num_steps_wait}"
        )
        require(
            self.fixture_seed is None or 0 <= self.fixture_seed < MAX_NUMPY_SEED,
            f"task.fixture_seed must be in [0, 2**32) or null, got {self.fixture_seed}",
        )
        require(
            self.fixture_seed is None or self.fixtures == "fixed",
            f"task.fixture_seed is {self.fixture_seed}, but task.fixtures per_episode draws a seed for every "
            "episode; set task.fixtures to fixed, or task.fixture_seed to null",
        )
        require(
            1 <= self.num_held_out_states < STATES_PER_TASK,
            f"task.num_held_out_states must be in [1, {STATES_PER_TASK - 1}], got {self.num_held_out_states}",
        )

    @property
    def shared_fixture_seed(self) -> int | None:
        """Return the fixture seed of every episode, or None where each has a draw of its own."""
        return (self.fixture_seed or 0) if self.fixtures == "fixed" else None
