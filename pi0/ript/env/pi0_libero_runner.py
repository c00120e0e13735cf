"""The serial runner: one simulator, in this process."""

from pi0.ript.env.pool import InlinePool
from pi0.ript.env.runner import EnvRunner


class LIBEROEnvRunner(EnvRunner):
    """Runs one episode after the other in this process; the simplest way to the same episodes."""

    def _make_pool(self) -> InlinePool:
        return InlinePool(
            self.policy.spec,
            num_slots=1,
            max_scenes=self.config.env.max_scenes,
            num_steps_wait=self.config.task.num_steps_wait,
        )
