"""One substep of robosuite's operational space control and gripper, compiled; pure functions.

Bit-equal to robosuite: the matrix work calls robosuite's own compiled functions, everything else
is elementwise in robosuite's order. Matrices must be column-major, as robosuite's indexing leaves
them, because BLAS rounds differently for the other layout. Products that robosuite takes in numpy
stay in numpy (``RobotController``), whose BLAS may round differently from numba's.
"""

import numba
import numpy as np
from numpy.typing import NDArray
from robosuite.utils.control_utils import (
    nullspace_torques,
    opspace_matrices,
    orientation_error,
)

Array = NDArray[np.float64]


@numba.njit(cache=True)
def decouple(
    ee_pos: Array,
    ee_ori: Array,
    ee_vel: Array,
    joint_pos: Array,
    joint_vel: Array,
    jacobian_pos: Array,
    jacobian_ori: Array,
    mass_matrix: Array,
    goal_pos: Array,
    goal_ori: Array,
    rest_pose: Array,
    kp: Array,
    kd: Array,
    first: int,
    force: Array,
    torque: Array,
    lambda_pos: Array,
    lambda_ori: Array,
    jacobian: Array,
    nullspace: Array,
) -> None:
    """Compute what is multiplied into joint torques: Khatib 1987, equations 51 to 54.

    Args:
        ee_pos: Float64 [3], end effector position (m).
        ee_ori: Float64 [3, 3], its rotation.
        ee_vel: Float64 [6], its linear (m/s) and angular (rad/s) velocity.
        joint_pos: Float64 [7] (rad).
        joint_vel: Float64 [7] (rad/s).
        jacobian_pos: Float64 [3, nv], of the end effector, all degrees of freedom.
        jacobian_ori: Float64 [3, nv].
        mass_matrix: Float64 [nv, nv].
        goal_pos: Float64 [3].
        goal_ori: Float64 [3, 3].
        rest_pose: Float64 [7], joint positions that the nullspace is drawn to.
        kp: Float64 [6], stiffness.
        kd: Float64 [6], damping.
        first: The arm's first degree of freedom; its seven are consecutive.
        force: Float64 [3], written: desired force before decoupling.
        torque: Float64 [3], written: desired torque before decoupling.
        lambda_pos: Float64 [3, 3] column-major, written: task-space inertia of the position.
        lambda_ori: Float64 [3, 3] column-major, written: task-space inertia of the rotation.
        jacobian: Float64 [6, 7] column-major, written.
        nullspace: Float64 [7], written: joint torques of the nullspace.
    """
    arm_pos, arm_ori = np.empty((7, 3)).T, np.empty((7, 3)).T
    arm_mass = np.empty((7, 7)).T
    for joint in range(7):
        for axis in range(3):
            arm_pos[axis, joint] = jacobian_pos[axis, first + joint]
            arm_ori[axis, joint] = jacobian_ori[axis, first + joint]
            jacobian[axis, joint] = arm_pos[axis, joint]
            jacobian[3 + axis, joint] = arm_ori[axis, joint]
        for other in range(7):
            arm_mass[other, joint] = mass_matrix[first + other, first + joint]
    rotation_error = orientation_error(goal_ori, ee_ori)
    for axis in range(3):
        force[axis] = (goal_pos[axis] - ee_pos[axis]) * kp[axis] + -ee_vel[axis] * kd[axis]
        torque[axis] = rotation_error[axis] * kp[3 + axis] + -ee_vel[3 + axis] * kd[3 + axis]
    _, inertia_pos, inertia_ori, projection = opspace_matrices(arm_mass, jacobian, arm_pos, arm_ori)
    lambda_pos[:] = inertia_pos
    lambda_ori[:] = inertia_ori
    nullspace[:] = nullspace_torques(arm_mass, projection, rest_pose, joint_pos, joint_vel)


@numba.njit(cache=True)
def actuate(
    task: Array,
    bias: Array,
    nullspace: Array,
    torque_low: Array,
    torque_high: Array,
    gripper: Array,
    gripper_step: Array,
    gripper_bias: Array,
    gripper_weight: Array,
    first_arm: int,
    first_gripper: int,
    ctrl: Array,
) -> None:
    """Write the actuator commands of one substep into ``ctrl``.

    Args:
        task: Float64 [7], joint torques (N m) that pull towards the goal.
        bias: Float64 [7], gravity and Coriolis torques.
        nullspace: Float64 [7], torques of the nullspace.
        torque_low: Float64 [7].
        torque_high: Float64 [7].
        gripper: Float64 [2] in [-1, 1], moved by one step in place.
        gripper_step: Float64 [2].
        gripper_bias: Float64 [2], middle of the fingers' actuator range.
        gripper_weight: Float64 [2], half of it.
        first_arm: The arm's first actuator; its seven are consecutive.
        first_gripper: The fingers' first actuator of two.
        ctrl: Float64 [nu], written.
    """
    for joint in range(7):
        command = (task[joint] + bias[joint]) + nullspace[joint]
        ctrl[first_arm + joint] = min(max(command, torque_low[joint]), torque_high[joint])
    for finger in range(2):
        gripper[finger] = min(max(gripper[finger] + gripper_step[finger], -1.0), 1.0)
        ctrl[first_gripper + finger] = (
            gripper_bias[finger] + gripper_weight[finger] * gripper[finger]
        )
