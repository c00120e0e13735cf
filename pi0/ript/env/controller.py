"""robosuite's operational space controller without its redundant work, bit-equal to it."""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

from typing import Self

import mujoco
import numpy as np
from robosuite.controllers.osc import OperationalSpaceController


class FastController(OperationalSpaceController):
    """Reads the robot state that the caller has just computed instead of computing it again.

    robosuite runs the whole forward dynamics before every controller update although the state has
    not changed, and computes each Jacobian twice. Results stay bit-equal as long as arrays keep
    robosuite's memory layout and operations keep its order.
    """

    @classmethod
    def adopt(cls, controller: OperationalSpaceController) -> Self:
        """Take over all state of a controller that robosuite has just created."""
        adopted = cls.__new__(cls)
        vars(adopted).update(vars(controller))
        adopted.site_id = controller.sim.model.site_name2id(controller.eef_name)
        return adopted

    def clone(self) -> Self:
        """Return an independent controller; arrays are shared because none is written in place."""
        cloned = type(self).__new__(type(self))
        vars(cloned).update(vars(self))
        return cloned

    def update(self, force: bool = False) -> None:  # noqa: FBT001, FBT002 - robosuite's signature
        """Read the robot state after ``mj_step1``; does nothing while the last reading holds."""
        if not (self.new_update or force):
            return
        model, data = self.sim.model._model, self.sim.data._data  # noqa: SLF001
        qvel = data.qvel
        self.ee_pos = np.array(data.site_xpos[self.site_id])
        self.ee_ori_mat = np.array(data.site_xmat[self.site_id].reshape([3, 3]))
        jacobian_pos, jacobian_ori = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, jacobian_pos, jacobian_ori, self.site_id)
        self.ee_pos_vel = np.dot(jacobian_pos, qvel)
        self.ee_ori_vel = np.dot(jacobian_ori, qvel)
        self.joint_pos = data.qpos[self.qpos_index]
        self.joint_vel = qvel[self.qvel_index]
        self.J_pos = np.array(jacobian_pos[:, self.qvel_index])
        self.J_ori = np.array(jacobian_ori[:, self.qvel_index])
        self.J_full = np.array(np.vstack([self.J_pos, self.J_ori]))
        mass_matrix = np.ndarray(shape=(model.nv, model.nv), dtype=np.float64, order="C")
        _full_mass_matrix(model, data, mass_matrix)
        self.mass_matrix = mass_matrix[self.qvel_index, :][:, self.qvel_index]
        self.new_update = False


def _full_mass_matrix(model: mujoco.MjModel, data: mujoco.MjData, out: np.ndarray) -> None:
    # MuJoCo 3.4 changed the arguments.
    if tuple(map(int, mujoco.__version__.split(".")[:2])) >= (3, 4):
        mujoco.mj_fullM(model, data, out)
    else:
        mujoco.mj_fullM(model, out, data.qM)
