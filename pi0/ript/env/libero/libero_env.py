"""LIBERO's own environment, built without a GL context and reset without recompiling its model."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to its MuJoCo model and reset parts.

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import robosuite
from libero.libero.envs import bddl_utils
from libero.libero.envs.bddl_base_domain import TASK_MAPPING, BDDLBaseDomain
from robosuite.utils.errors import RandomizationError

from pi0.ript.env.libero.slot import MODEL_FIELDS, ModelState, set_model_state

logger = logging.getLogger(__name__)

PLACEMENT_ATTEMPTS = 100


class LiberoEnv:
    """A LIBERO domain together with what its model looked like when it was compiled."""

    def __init__(self, bddl_file: Path) -> None:
        """Build the environment of the task that a file defines, as LIBERO's ``ControlEnv`` does."""
        # MuJoCo would write its warnings to the terminal and into a file in the current folder;
        # the scene reads the counters that MuJoCo keeps of them.
        mujoco.set_mju_user_warning(logger.debug)
        with _preserved_numpy_generator():
            domain, self._pristine = _build(str(bddl_file))
        # MuJoCo keeps the last file that it has compiled, with all meshes and textures (450 MB).
        mujoco.MjModel.from_xml_string("<mujoco/>")
        self.domain: Any = domain  # robosuite declares most attributes as None first
        self.model: mujoco.MjModel = self.domain.sim.model._model
        self._initializers = list(self.domain.object_property_initializers)

    def reset(self, fixture_seed: int) -> None:
        """Do what ``env.seed(fixture_seed); env.reset()`` does on a new LIBERO environment.

        Works on the MjData that is installed and leaves numpy's global generator as it was.

        Raises:
            RuntimeError: No draw of the fixture poses was a valid placement.
        """
        with _preserved_numpy_generator():
            self._reset(fixture_seed)

    def _reset(self, fixture_seed: int) -> None:
        # LIBERO recompiles the model on reset, which appends the task's joint initializers to its
        # list once more: a new environment draws them twice on its first reset, and once more for
        # every placement that failed. The draws come before those of the fixture poses.
        self.domain.seed(fixture_seed)
        for attempt in range(PLACEMENT_ATTEMPTS):
            self.domain.object_property_initializers = self._initializers * (2 + attempt)
            set_model_state(self.model, self._pristine)
            try:
                self.domain.reset()
            except RandomizationError:
                continue
            return
        raise RuntimeError(f"LIBERO found no valid placement with fixture seed {fixture_seed}")


@contextmanager
def _preserved_numpy_generator() -> Iterator[None]:
    # LIBERO draws from numpy's global generator; the caller's sequence must not notice.
    saved = np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(saved)  # noqa: NPY002


def _build(path: str) -> tuple[BDDLBaseDomain, ModelState]:
    """Build LIBERO's environment for a BDDL file as ``ControlEnv`` does, without a GL context.

    Returns:
        The environment and the model fields as compiled, before the first reset drew fixture poses.
    """
    domain = TASK_MAPPING[bddl_utils.get_problem_info(path)["problem_name"]]
    pristine: ModelState = {}

    def initialize_sim(self: BDDLBaseDomain, xml_string: str | None = None) -> None:
        domain._initialize_sim(self, xml_string)
        for name in MODEL_FIELDS:
            pristine[name] = np.array(getattr(self.sim.model._model, name))

    def reset_internal(self: BDDLBaseDomain) -> None:
        # LIBERO compiles a model anew, and both its simulation and its GL context run it forward once, each
        # of which leaves the solver another warm start.
        self.sim.forward()
        self.sim.forward()
        domain._reset_internal(self)

    # The domain checks that its class is named after the problem.
    methods = {"_initialize_sim": initialize_sim, "_reset_internal": reset_internal}
    recording = type(domain.__name__, (domain,), methods)
    np.random.seed(0)  # noqa: NPY002 - LIBERO's constructor draws a first placement
    env = recording(
        path,
        robots=["Panda"],
        controller_configs=robosuite.load_controller_config(default_controller="OSC_POSE"),
        gripper_types="default",
        initialization_noise=None,
        use_camera_obs=False,
        has_renderer=False,
        has_offscreen_renderer=False,
        control_freq=20,
        hard_reset=False,
    )
    return env, pristine
