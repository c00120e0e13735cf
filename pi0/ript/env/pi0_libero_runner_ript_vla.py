"""The parallel runner: many simulators in processes of their own, one policy in this one."""

from dataclasses import replace

from pi0.ript.config.base import Auto
from pi0.ript.env.pool.inline_pool import InlinePool
from pi0.ript.env.pool.process_pool import ProcessPool
from pi0.ript.env.ray.pool import RayPool
from pi0.ript.env.resources import UNLIMITED, Sizing, choose_sizing, read_machine
from pi0.ript.env.runner import EnvRunner


class PI0LiberoRunner(EnvRunner):
    """Keeps ``num_parallel_envs`` episodes under way, whose policy steps share batched policy calls."""

    def _size(self, num_parallel_envs: int | Auto) -> Sizing:
        env = self.config.env
        machine = read_machine().share(self.local_world_size)
        if (
            env.uses_cluster
        ):  # its memory is not that of this host; every host refuses what it lacks
            machine = replace(machine, memory_bytes=UNLIMITED)
        sizing = choose_sizing(
            num_parallel_envs,
            1 if env.backend == "inline" else env.num_workers,
            max_scenes=env.max_scenes,
            num_tasks=len(self.tasks),
            group_size=self.rollouts_per_env,
            spec=self.policy.spec,
            machine=machine,
        )
        if env.uses_cluster:
            return replace(sizing, reason=f"on the Ray cluster at {env.ray.address}")
        return sizing

    def _make_pool(self) -> InlinePool | ProcessPool | RayPool:
        env, sizing, num_steps_wait = self.config.env, self.sizing, self.config.task.num_steps_wait
        if env.backend == "inline":
            return InlinePool(
                self.policy.spec,
                sizing.num_slots,
                max_scenes=sizing.scenes_per_worker,
                num_steps_wait=num_steps_wait,
                egl_device=self.egl_device,
                exactness=env.exactness,
            )
        if env.backend == "ray":
            return self._make_ray_pool()
        return ProcessPool(
            self.policy.spec,
            sizing.num_slots,
            sizing.num_workers,
            max_scenes=sizing.scenes_per_worker,
            num_steps_wait=num_steps_wait,
            timeout_s=env.timeout_s,
            egl_device=self.egl_device,
            exactness=env.exactness,
        )

    def _make_ray_pool(self) -> RayPool:
        env, sizing = self.config.env, self.sizing
        is_chosen = env.egl_device != "auto" or not env.uses_cluster
        return RayPool(
            self.policy.spec,
            sizing.num_slots,
            sizing.num_workers,
            ray=env.ray,
            max_scenes=sizing.scenes_per_worker,
            num_steps_wait=self.config.task.num_steps_wait,
            timeout_s=env.timeout_s,
            # Where the policy computes says nothing about the GPUs of other hosts.
            egl_device=self.egl_device if is_chosen else None,
            exactness=env.exactness,
        )
