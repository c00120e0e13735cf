"""Which GPU the simulators draw on."""

from collections.abc import Mapping

from pi0.ript.config.auto import Auto

EGL_VARIABLE = "MUJOCO_EGL_DEVICE_ID"
CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"


def resolve_egl_device(
    requested: int | Auto, cuda_index: int | None, environment: Mapping[str, str]
) -> int | None:
    """Return the device as EGL counts them, or None to leave the choice to EGL's variable.

    ``auto`` draws where the policy computes. EGL numbers all devices of the machine, CUDA only
    those in CUDA_VISIBLE_DEVICES, so the list is looked up; where it holds no plain numbers
    (MIG slices, names), a container most often shows its own devices only and the index is right.

    Args:
        requested: ``env.egl_device``.
        cuda_index: The policy's device as CUDA counts them; None on a CPU.
        environment: The environment variables of this process.
    """
    if requested != "auto":
        return requested
    if EGL_VARIABLE in environment:
        return None
    visible = [entry.strip() for entry in environment.get(CUDA_VARIABLE, "").split(",")]
    position = cuda_index or 0
    if position < len(visible) and visible[position].isdigit():
        return int(visible[position])
    return cuda_index
