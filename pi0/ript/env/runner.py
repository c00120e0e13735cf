"""What both public runners share: a policy, a pool of simulator slots, and the rollouts of a task."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping
from typing import Self

from pi0.records import Sampling, choose_batch_size
from pi0.ript.config.base import Auto
from pi0.ript.config.schema import TrainConfig
from pi0.ript.config.task import TaskName
from pi0.ript.env.episode_view import Result, in_request_order
from pi0.ript.env.initial_states import States, states_of_caller, training_states
from pi0.ript.env.resources import Sizing
from pi0.ript.env.rollout.queue import Source, no_more
from pi0.ript.env.rollout.scheduler import LockstepScheduler, Scheduler
from pi0.ript.env.rollout.stats import RolloutStats
from pi0.ript.env.suites import (
    all_tasks,
    find_suite,
    locate_task,
    protocol_of,
    step_limit,
    task_name,
)
from pi0.ript.interfaces import EnvPool, Policy, RunnerPool
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeRequest, InitialState

logger = logging.getLogger(__name__)


class EnvRunner(ABC):
    """Runs episodes of a policy on LIBERO; the subclasses differ only in where the simulators run.

    Example:
        ``with LIBEROEnvRunner(policy, "libero_goal", rollouts_per_env=8) as runner:`` then
        ``for success, reward, episode in runner.run_policy_in_env("turn_on_the_stove"): ...``
    """

    def __init__(
        self,
        policy: Policy | None = None,
        benchmark_name: str | None = None,
        rollouts_per_env: int = 1,
        num_parallel_envs: int | Auto = 1,
        max_episode_length: int | None = None,
        task_names_to_use: Iterable[TaskName] | None = None,
        config: TrainConfig | None = None,
        rank: int = 0,
        world_size: int = 1,
        norm_stats_path: str | None = None,
        egl_device: int | None = None,
        local_world_size: int = 1,
        batch_size: int | None = None,
    ) -> None:
        """Check the arguments; simulators start with the first rollout.

        Args:
            policy: Maps a batch of observations to action chunks; required.
            benchmark_name: LIBERO suite; None takes ``config.task.benchmark_name``.
            rollouts_per_env: Episodes per ``run_policy_in_env`` call.
            num_parallel_envs: Simulator slots of the parallel runner, ``auto`` chooses from cores,
                memory and ``rollouts_per_env``; the serial one has one.
            max_episode_length: Control steps per episode after settling; None takes
                ``config.task.max_episode_length`` or, where that is null, the suite's limit in the
                policy's protocol.
            task_names_to_use: Tasks by name or index, those of another suite as ``suite/task``; None
                or empty means all of the suite.
            config: Everything else: noise scale, seed, batch size, workers, time limits.
            rank: Which of ``world_size`` processes this is; ranks draw different noise.
            world_size: How many processes train together.
            norm_stats_path: Accepted for callers of older runners; a policy has its own.
            egl_device: Which GPU draws, as EGL counts them; None leaves it to the environment.
            local_world_size: How many of these processes share this host.
            batch_size: Most samples per policy call; None takes ``config.policy.batch_size``, where ``auto``
                is what it is on a CPU.

        Raises:
            ValueError: An argument is missing or out of range; names it.
        """
        if policy is None:
            raise ValueError("policy is required, got None; load one, e.g. load_policy('builtin')")
        for name, value in (
            ("rollouts_per_env", rollouts_per_env),
            ("num_parallel_envs", 1 if num_parallel_envs == "auto" else num_parallel_envs),
            ("world_size", world_size),
            ("local_world_size", local_world_size),
        ):
            _require_positive(name, value)
        if max_episode_length is not None:
            _require_positive("max_episode_length", max_episode_length)
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be in 0..{world_size - 1}, got {rank}")
        if norm_stats_path is not None:
            logger.warning(
                "norm_stats_path=%s has no effect on a runner: the policy holds its statistics",
                norm_stats_path,
            )
        self.policy = policy
        self.config = config if config is not None else TrainConfig()
        self.suite = find_suite(benchmark_name or self.config.task.benchmark_name)
        self.rollouts_per_env = rollouts_per_env
        self.rank, self.world_size = rank, world_size
        self.local_world_size = local_world_size
        self.max_episode_length = (
            self.config.task.max_episode_length
            if max_episode_length is None
            else max_episode_length
        )
        self.tasks = tuple(
            locate_task(self.suite, task) for task in task_names_to_use or ()
        ) or tuple(all_tasks(self.suite))
        self.sizing = self._size(num_parallel_envs)
        self.num_parallel_envs = self.sizing.num_slots
        self.egl_device = egl_device
        self.batch_size = batch_size or choose_batch_size(self.config.policy.batch_size, "cpu")
        self.stats = RolloutStats()
        self._image_s: float | None = None
        self._pool: RunnerPool | None = None
        self._num_calls = 0

    @abstractmethod
    def _size(self, num_parallel_envs: int | Auto) -> Sizing:
        """Return how many simulators there will be."""

    @abstractmethod
    def _make_pool(self) -> RunnerPool:
        """Start the simulators."""

    @property
    def task_names(self) -> tuple[str, ...]:
        """Return the names of the tasks to use."""
        return tuple(task_name(suite, task_id) for suite, task_id in self.tasks)

    def create_env(self, env_name: TaskName) -> EnvPool:
        """Return a pool of simulator slots that the caller owns and closes.

        Args:
            env_name: Task name or index; must exist. The pool can run every task.
        """
        locate_task(self.suite, env_name)
        return self._make_pool()

    def run(
        self,
        source: Source,
        sampling: Sampling,
        pool: EnvPool | None = None,
        policy: Policy | None = None,
        spare: Source = no_more,
    ) -> Generator[Episode, None, None]:
        """Run the source's episodes and yield each as it finishes; ``stats`` counts this run.

        Closing the generator early leaves the pool idle.

        Args:
            source: Returns the next episode to run; None means nothing for now.
            sampling: How the policy draws its action chunks.
            pool: A pool the caller owns; None uses the runner's own.
            policy: The policy that acts; None is the runner's own.
            spare: Returns an episode to run where a simulator would have nothing to do; None means none.

        Raises:
            NotFiniteError: An observation or an action chunk holds NaN or infinity.
            RestartLimitError: More simulators had to be replaced than ``env.max_restarts`` allows.
        """
        self._image_s = self.seconds_per_image
        self.stats = RolloutStats()
        if pool is None:
            pool = self._pool = self._pool or self._make_pool()
        kind = Scheduler if self.config.env.schedule == "ready" else LockstepScheduler
        scheduler = kind(
            pool,
            policy or self.policy,
            source,
            sampling=sampling,
            batch_size=self.batch_size,
            max_attempts=self.config.env.max_attempts,
            max_restarts=self.config.env.max_restarts,
            stats=self.stats,
            spare=spare,
        )
        return scheduler.run()

    def run_policy_in_env(
        self,
        env_name: TaskName,
        all_init_states: States | None = None,
        debug_save_video: bool | None = None,  # noqa: FBT001 - the published signature
        created_env: EnvPool | None = None,
    ) -> Generator[Result, None, None]:
        """Yield exactly ``rollouts_per_env`` episodes of one task, in rollout order.

        These are training rollouts and no measurement: the policy explores with the noise of a run's
        first step (``algo.noise``), by default from states that are trained on. ``ript eval`` measures.

        Results stream: each is yielded as soon as it and its predecessors have finished. The n-th
        call of a runner draws noise of its own, the same in every run of the program.

        Args:
            env_name: Task name or index; a task of another suite as ``suite/task``.
            all_init_states: Float64 [n, length]; rollout k starts from state k. None takes LIBERO's
                own states, without the held-out ones, over and over. Under ``task.fixtures``
                ``per_episode`` each of LIBERO's has a draw of fixtures of its own and equal states of
                yours share one; all of them are the same in every call.
            debug_save_video: Mark the episodes for a video at ``config.video.rate``.
            created_env: A pool made by ``create_env``; the caller closes it.

        Yields:
            Success, total reward (0 or 1, NaN if the simulator crashed) and the episode.

        Raises:
            ValueError: There is no such task, or too few or wrong initial states; before any episode.
        """
        suite, task_id = locate_task(self.suite, env_name)
        states = self._states(suite, task_id, all_init_states)
        requests = self._requests(states, record_video=bool(debug_save_video))
        self._num_calls += 1
        waiting = iter(requests)
        sampling = self.config.algo.sampling(1, self.config.policy.denoise_steps)
        episodes = self.run(lambda: next(waiting, None), sampling, created_env)
        return in_request_order(episodes)

    def start(self) -> None:
        """Start the runner's own simulators now instead of with the first rollout.

        Raises:
            RenderingError: They cannot render on this machine.
        """
        self._pool = self._pool or self._make_pool()
        self._pool.wait_until_ready()

    @property
    def seconds_per_image(self) -> float | None:
        """Return worker seconds per image of a video, as last measured; None before the first one."""
        return self.stats.seconds_per_image or self._image_s

    @property
    def driver(self) -> Mapping[str, str]:
        """Return what the started simulators draw with: GL vendor, renderer and version."""
        return {} if self._pool is None else self._pool.driver

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """Return the simulator processes on this machine."""
        return () if self._pool is None else self._pool.local_pids

    def drop_scenes(self) -> None:
        """Free the scenes that no episode is in."""
        if self._pool is not None:
            self._pool.drop_scenes()

    def close(self) -> None:
        """End the runner's own simulators; safe to call twice."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _states(self, suite: str, task_id: int, states: States | None) -> list[InitialState]:
        task, count = self.config.task, self.rollouts_per_env
        fixtures, draw = task.shared_fixture_seed, (self.config.training.seed,)
        if states is not None:
            return states_of_caller(
                suite, task_id, states, count=count, fixture_seed=fixtures, draw=draw
            )
        return training_states(
            suite,
            task_id,
            count=count,
            held_out=task.num_held_out_states,
            fixture_seed=fixtures,
            draw=draw,
        )

    def _requests(self, states: list[InitialState], *, record_video: bool) -> list[EpisodeRequest]:
        seed, protocol = self.config.training.seed, protocol_of(self.policy)
        return [
            EpisodeRequest(
                initial_state=state,
                seed=derive_seed(seed, "run_policy_in_env", self.rank, self._num_calls, k),
                max_steps=step_limit(state.suite, protocol, self.max_episode_length),
                rollout=k,
                record_video=record_video,
                video_rate=self.config.video.rate,
            )
            for k, state in enumerate(states)
        ]


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be >= 1, got {value}")
