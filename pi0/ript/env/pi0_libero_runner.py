"""The serial runner: one simulator, in this process."""

from pi0.ript.config.base import Auto
from pi0.ript.env.pool.inline_pool import InlinePool
from pi0.ript.env.resources import Sizing, fit_scenes, read_machine
from pi0.ript.env.runner import EnvRunner


class LIBEROEnvRunner(EnvRunner):
    """Runs one episode after the other in this process; the simplest way to the same episodes."""

    def _size(self, num_parallel_envs: int | Auto) -> Sizing:
        del num_parallel_envs  # the serial runner has one
        machine = read_machine().share(self.local_world_size)
        return fit_scenes(self.config.env.max_scenes, len(self.tasks), self.policy.spec, machine)

    def _make_pool(self) -> InlinePool:
        return InlinePool(
            self.policy.spec,
            num_slots=1,
            max_scenes=self.sizing.scenes_per_worker,
            num_steps_wait=self.config.task.num_steps_wait,
            egl_device=self.egl_device,
            exactness=self.config.env.exactness,
        )
