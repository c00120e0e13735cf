"""Pools of real simulators, as small as tests need them."""

from pi0.ript.config.env import RayConfig
from pi0.ript.env.pool.inline_pool import InlinePool
from pi0.ript.env.pool.process_pool import ProcessPool
from pi0.ript.env.ray.pool import RayPool
from tests.env.toys import SPEC

NUM_STEPS_WAIT = 10
TIMEOUT_S = 120.0


def inline_pool(num_slots=1, *, spec=SPEC, max_scenes=1):
    return InlinePool(spec, num_slots, max_scenes=max_scenes, num_steps_wait=NUM_STEPS_WAIT)


def process_pool(num_slots=1, num_workers=1, *, spec=SPEC, max_scenes=1, timeout_s=TIMEOUT_S):
    return ProcessPool(
        spec,
        num_slots,
        num_workers,
        max_scenes=max_scenes,
        num_steps_wait=NUM_STEPS_WAIT,
        timeout_s=timeout_s,
    )


def ray_pool(
    num_slots=1,
    num_workers=1,
    *,
    spec=SPEC,
    ray=None,
    max_scenes=1,
    timeout_s=TIMEOUT_S,
    egl_device=None,
):
    """A pool of the cluster ``ray``; None starts an instance on this host."""
    return RayPool(
        spec,
        num_slots,
        num_workers,
        ray=ray or RayConfig(),
        max_scenes=max_scenes,
        num_steps_wait=NUM_STEPS_WAIT,
        timeout_s=timeout_s,
        egl_device=egl_device,
    )
