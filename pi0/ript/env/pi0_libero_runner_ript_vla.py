"""The parallel runner: many simulators in worker processes, one policy in this one."""

from pi0.ript.env.pool import InlinePool, ProcessPool
from pi0.ript.env.runner import EnvRunner


class PI0LiberoRunner(EnvRunner):
    """Keeps ``num_parallel_envs`` episodes under way and answers them in batches."""

    def _make_pool(self) -> InlinePool | ProcessPool:
        env, num_steps_wait = self.config.env, self.config.task.num_steps_wait
        if env.backend == "inline":
            return InlinePool(
                self.policy.spec,
                self.num_parallel_envs,
                max_scenes=env.max_scenes,
                num_steps_wait=num_steps_wait,
            )
        return ProcessPool(
            self.policy.spec,
            self.num_parallel_envs,
            env.num_workers,
            max_scenes=env.max_scenes,
            num_steps_wait=num_steps_wait,
            timeout_s=env.timeout_s,
        )
