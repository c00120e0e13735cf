"""The two usual ways to run many LIBERO environments, behind one interface for comparison.

Both render two cameras at every step and move in lock-step, as their libraries do.
"""

# pyright: reportArgumentType=false
# (LIBERO's annotations of its vector environment are narrower than what it takes.)

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode
from libero.libero.envs.venv import SubprocVectorEnv
from numpy.typing import NDArray

from benchmarks.simulator.peer import (
    CAMERAS,
    SETTLE_ACTION,
    SETTLE_STEPS,
    RepeatableEnv,
    make_env,
    observation,
)
from pi0.records import Observation
from pi0.ript.types import InitialState

PROPRIO_SIZE = 9
ACTION_SIZE = 7


class VectorPeer(Protocol):
    """n environments that start and step together."""

    def start(self, states: Sequence[InitialState]) -> list[Observation]:
        """Bring every environment to its settled initial state."""
        ...

    def step(self, actions: NDArray[np.float32]) -> tuple[list[Observation], NDArray[np.bool_]]:
        """Take one control step, float32 [n, 7], in every environment; return observations and dones."""
        ...

    def close(self) -> None:
        """End all processes."""
        ...


class SubprocPeer:
    """LIBERO's own vector environment, driven as RIPT-VLA drives it."""

    def __init__(self, suite: str, task_id: int, size: int, num_envs: int) -> None:
        """Start a process per environment."""
        make = partial(make_env, suite, task_id, size)
        self._envs = SubprocVectorEnv([make] * num_envs)
        self._settle = np.tile(np.array(SETTLE_ACTION), (num_envs, 1))

    def start(self, states: Sequence[InitialState]) -> list[Observation]:
        """Seed, reset, set the states and settle."""
        self._envs.seed([state.fixture_seed for state in states])
        self._envs.reset()
        raw: Any = self._envs.set_init_state([state.state for state in states])
        for _ in range(SETTLE_STEPS):
            raw, *_ = self._envs.step(self._settle)
        return [observation(one) for one in raw]

    def step(self, actions: NDArray[np.float32]) -> tuple[list[Observation], NDArray[np.bool_]]:
        """Take one control step in every environment."""
        raw, _, dones, *_ = self._envs.step(actions)
        return [observation(one) for one in raw], np.asarray(dones, dtype=np.bool_)

    def close(self) -> None:
        """End all processes."""
        self._envs.close()


class GymLibero(gymnasium.Env[dict[str, Any], NDArray[np.float32]]):
    """LIBERO's environment as gymnasium wants it; a reset includes the initial state and settling."""

    def __init__(self, suite: str, task_id: int, size: int, number: int) -> None:
        """Describe the spaces without building the simulator.

        gymnasium makes one more environment in the calling process, only to read its spaces.
        """
        self._arguments, self._number = (suite, task_id, size), number
        self._env: RepeatableEnv | None = None
        images = (len(CAMERAS), size, size, 3)
        self.observation_space = gymnasium.spaces.Dict(
            images=gymnasium.spaces.Box(0, 255, images, np.uint8),
            proprio=gymnasium.spaces.Box(-np.inf, np.inf, (PROPRIO_SIZE,), np.float64),
        )
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)

    def build(self) -> None:
        """Build the simulator."""
        self._env = make_env(*self._arguments)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Seed, reset, set this environment's entry of ``options["states"]`` and settle."""
        super().reset(seed=seed)
        assert options is not None
        assert self._env is not None
        self._env.seed(seed)
        self._env.reset()
        raw = self._env.set_init_state(options["states"][self._number])
        for _ in range(SETTLE_STEPS):
            raw, *_ = self._env.step(SETTLE_ACTION)
        return _as_dict(observation(raw)), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Take one control step."""
        assert self._env is not None
        raw, reward, done, _ = self._env.step(action)
        return _as_dict(observation(raw)), float(reward), bool(done), False, {}

    def close(self) -> None:
        """Free the simulator."""
        if self._env is not None:
            self._env.close()
            self._env = None


class AsyncPeer:
    """gymnasium's vector environment over LIBERO's environment, with shared memory."""

    def __init__(self, suite: str, task_id: int, size: int, num_envs: int) -> None:
        """Start a process per environment."""
        makes = [partial(GymLibero, suite, task_id, size, number) for number in range(num_envs)]
        self._envs = AsyncVectorEnv(
            makes, shared_memory=True, copy=False, autoreset_mode=AutoresetMode.DISABLED
        )
        self._envs.call("build")

    def start(self, states: Sequence[InitialState]) -> list[Observation]:
        """Bring every environment to its settled initial state."""
        seeds = [state.fixture_seed for state in states]
        options = {"states": np.stack([state.state for state in states])}
        raw, _ = self._envs.reset(seed=seeds, options=options)
        return _unbatched(raw)

    def step(self, actions: NDArray[np.float32]) -> tuple[list[Observation], NDArray[np.bool_]]:
        """Take one control step in every environment."""
        raw, _, dones, _, _ = self._envs.step(actions)
        return _unbatched(raw), dones

    def close(self) -> None:
        """End all processes."""
        self._envs.close()


def _as_dict(observation: Observation) -> dict[str, Any]:
    return {"images": observation.images, "proprio": observation.proprio}


def _unbatched(batch: dict[str, Any]) -> list[Observation]:
    """Return views of the shared memory, good until the next step."""
    return [
        Observation(images=images, proprio=proprio)
        for images, proprio in zip(batch["images"], batch["proprio"], strict=True)
    ]
