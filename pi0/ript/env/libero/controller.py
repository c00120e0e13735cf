"""robosuite's control of the Panda arm and its gripper without the redundant work, bit-equal to it.

robosuite runs the whole forward dynamics before every controller update although the state has not
changed, computes each Jacobian twice, and spends more time in small Python steps than in arithmetic.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module and robosuite come without types.)

# ruff: noqa: SLF001 - robosuite offers no public way to what its controllers and robots hold.

from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray
from robosuite.controllers.osc import OperationalSpaceController
from robosuite.utils.control_utils import set_goal_orientation, set_goal_position

from pi0.ript.env.libero.control_law import actuate, decouple
from pi0.ript.env.libero.slot import NUM_JOINTS, ControlState, Reading


class Panda:
    """What all slots of a scene share: where the robot is in the model, its gains and limits."""

    def __init__(self, env: Any) -> None:
        """Read the constants of a robosuite environment with one Panda."""
        robot, model = env.robots[0], env.sim.model
        controller = robot.controller
        assert controller.uncoupling
        assert controller.impedance_mode == "fixed"
        assert controller.interpolator_pos is None
        assert controller.position_limits is None
        assert controller.orientation_limits is None
        self.model: mujoco.MjModel = model._model
        self.template: OperationalSpaceController = controller
        self.site_id = model.site_name2id(controller.eef_name)
        self.first_qpos = _first_of_seven(controller.qpos_index)
        self.first_dof = _first_of_seven(controller.qvel_index)
        self.first_arm_actuator = _first_of_seven(robot._ref_joint_actuator_indexes)
        self.kp, self.kd = np.array(controller.kp), np.array(controller.kd)
        self.rest_pose = np.array(controller.initial_joint)
        self.torque_low, self.torque_high = (np.array(limit) for limit in robot.torque_limits)
        fingers = [model.actuator_name2id(name) for name in robot.gripper.actuators]
        assert fingers == [fingers[0], fingers[0] + 1]
        self.first_finger_actuator = fingers[0]
        ctrl_range = model.actuator_ctrlrange[fingers]
        self.gripper_bias = 0.5 * (ctrl_range[:, 1] + ctrl_range[:, 0])
        self.gripper_weight = 0.5 * (ctrl_range[:, 1] - ctrl_range[:, 0])
        self.gripper_speed = np.array([-1.0, 1.0]) * robot.gripper.speed


class RobotController:
    """The controller of one simulation: from actions to actuator commands, once per substep."""

    def __init__(self, panda: Panda, data: mujoco.MjData) -> None:
        """Bind to one MjData; its state comes from ``adopt`` or ``install``."""
        self._panda, self._data = panda, data
        self._goal_pos, self._goal_ori = np.zeros(3), np.zeros((3, 3))
        self._gripper, self._gripper_step = np.zeros(2), np.zeros(2)
        self._reading = Reading.empty(panda.model.nv)
        self._has_read = False
        self._bind_views()
        self._force, self._torque = np.zeros(3), np.zeros(3)
        self._wrench, self._task = np.zeros(6), np.zeros(NUM_JOINTS)
        self._nullspace = np.zeros(NUM_JOINTS)
        # Column-major, as control_law.decouple wants them.
        self._lambda_pos, self._lambda_ori = np.zeros((3, 3)).T, np.zeros((3, 3)).T
        self._jacobian = np.zeros((NUM_JOINTS, 6)).T

    @property
    def has_reading(self) -> bool:
        """Return whether the next control step acts on a reading taken before it, as after a reset."""
        return self._has_read

    def adopt(self, controller: OperationalSpaceController) -> None:
        """Take over from a controller that robosuite has just reset.

        Its reading holds until the end of the first substep, even if the simulation is moved to
        another state in between, as ``set_init_state`` does.
        """
        reading, first = self._reading, self._panda.first_dof
        arm = slice(first, first + NUM_JOINTS)
        self._goal_pos[:], self._goal_ori[:] = controller.goal_pos, controller.goal_ori
        self._gripper[:] = 0.0
        reading.ee_pos[:], reading.ee_ori[:] = controller.ee_pos, controller.ee_ori_mat
        reading.ee_vel[:3], reading.ee_vel[3:] = controller.ee_pos_vel, controller.ee_ori_vel
        reading.joint_pos[:], reading.joint_vel[:] = controller.joint_pos, controller.joint_vel
        reading.jacobian_pos[:, arm] = controller.J_pos
        reading.jacobian_ori[:, arm] = controller.J_ori
        reading.mass_matrix[arm, arm] = controller.mass_matrix
        self._has_read = not controller.new_update
        assert np.array_equal(np.asarray(controller.initial_joint), self._panda.rest_pose)

    def state(self) -> ControlState:
        """Return a copy of all that the next control step depends on."""
        return ControlState(
            goal_pos=self._goal_pos.copy(),
            goal_ori=self._goal_ori.copy(),
            gripper=self._gripper.copy(),
            reading=self._reading.copy() if self._has_read else None,
        )

    def install(self, state: ControlState) -> None:
        """Continue from what ``state`` returned, perhaps that of another simulation."""
        self._goal_pos[:], self._goal_ori[:] = state.goal_pos, state.goal_ori
        self._gripper[:] = state.gripper
        self._has_read = state.reading is not None
        if state.reading is not None:
            self._reading.write(state.reading)

    def set_goal(self, action: NDArray[np.floating]) -> None:
        """Aim at a pose relative to the present one; call after ``mj_step1``.

        Args:
            action: Float [7]: position, rotation, gripper (-1 opens, +1 closes).
        """
        self._read()
        delta = self._panda.template.scale_action(action[:6])
        # robosuite keeps the last goal if no rotation is commanded (it compares with math.isclose,
        # which for zero means equality).
        if delta[3:].any():
            self._goal_ori[:] = set_goal_orientation(delta[3:], self._reading.ee_ori)
        self._goal_pos[:] = set_goal_position(delta[:3], self._reading.ee_pos)
        self._gripper_step[:] = self._panda.gripper_speed * np.sign(action[6:])

    def command(self) -> None:
        """Write the actuator commands of this substep; call between ``mj_step1`` and ``mj_step2``."""
        self._read()
        panda, reading = self._panda, self._reading
        decouple(
            reading.ee_pos, reading.ee_ori, reading.ee_vel, reading.joint_pos, reading.joint_vel,
            reading.jacobian_pos, reading.jacobian_ori, reading.mass_matrix,
            self._goal_pos, self._goal_ori, panda.rest_pose, panda.kp, panda.kd, panda.first_dof,
            self._force, self._torque, self._lambda_pos, self._lambda_ori, self._jacobian,
            self._nullspace,
        )  # fmt: skip
        np.dot(self._lambda_pos, self._force, out=self._wrench[:3])
        np.dot(self._lambda_ori, self._torque, out=self._wrench[3:])
        np.dot(self._jacobian.T, self._wrench, out=self._task)
        actuate(
            self._task, self._bias, self._nullspace, panda.torque_low, panda.torque_high,
            self._gripper, self._gripper_step, panda.gripper_bias, panda.gripper_weight,
            panda.first_arm_actuator, panda.first_finger_actuator, self._ctrl,
        )  # fmt: skip
        self._has_read = False

    def _bind_views(self) -> None:
        panda, data = self._panda, self._data
        joints = slice(panda.first_qpos, panda.first_qpos + NUM_JOINTS)
        arm = slice(panda.first_dof, panda.first_dof + NUM_JOINTS)
        self._site_pos = data.site_xpos[panda.site_id]
        self._site_mat = data.site_xmat[panda.site_id].reshape(3, 3)
        self._qvel, self._ctrl = data.qvel, data.ctrl
        self._joint_pos, self._joint_vel = data.qpos[joints], data.qvel[arm]
        self._bias = data.qfrc_bias[arm]

    def _read(self) -> None:
        """Read the robot's state once per substep; the reading of a reset outlives it."""
        if self._has_read:
            return
        panda, data, reading = self._panda, self._data, self._reading
        reading.ee_pos[:], reading.ee_ori[:] = self._site_pos, self._site_mat
        reading.joint_pos[:], reading.joint_vel[:] = self._joint_pos, self._joint_vel
        mujoco.mj_jacSite(
            panda.model, data, reading.jacobian_pos, reading.jacobian_ori, panda.site_id
        )
        np.dot(reading.jacobian_pos, self._qvel, out=reading.ee_vel[:3])
        np.dot(reading.jacobian_ori, self._qvel, out=reading.ee_vel[3:])
        mujoco.mj_fullM(panda.model, reading.mass_matrix, data.qM)
        self._has_read = True


def _first_of_seven(indices: Any) -> int:
    first = int(indices[0])
    assert list(indices) == list(range(first, first + NUM_JOINTS)), indices
    return first
