"""Rendering without a screen: on which device, whether it works here, and what to change if not."""

import contextlib
import ctypes
import ctypes.util
import logging
import os
from collections.abc import Callable, Iterator, Mapping

from pi0.ript.config.base import Auto

BACKEND_VARIABLE = "MUJOCO_GL"
PLATFORM_VARIABLE = "PYOPENGL_PLATFORM"
EGL_VARIABLE = "MUJOCO_EGL_DEVICE_ID"
CUDA_VARIABLE = "CUDA_VISIBLE_DEVICES"
GL_FACTS = {"GL vendor": "GL_VENDOR", "GL renderer": "GL_RENDERER", "GL version": "GL_VERSION"}
"""What a GL context says of its driver: how we name it, and its name in OpenGL."""
# Say which drivers EGL finds; other programs set them for machines of their own.
DRIVER_VARIABLES = ("__EGL_VENDOR_LIBRARY_FILENAMES", "__EGL_VENDOR_LIBRARY_DIRS")

logger = logging.getLogger(__name__)


def resolve_egl_device(
    requested: int | Auto,
    cuda_index: int | None,
    environment: Mapping[str, str],
    count_devices: Callable[[], int | None],
) -> int | None:
    """Return the device as EGL counts them, or None to leave the choice to EGL or its variable.

    ``auto`` draws where the policy computes. EGL numbers all devices of the machine, CUDA only
    those in CUDA_VISIBLE_DEVICES, so that list is read; where it holds no plain numbers
    (MIG slices, names), a container most often shows its own devices only and the index is right.
    What ``auto`` takes for the device need not be one of EGL's, and is dropped with a notice then.

    Args:
        requested: ``env.egl_device``.
        cuda_index: The policy's device as CUDA counts them; None on a CPU.
        environment: The environment variables of this process.
        count_devices: Returns how many devices EGL shows here; None where that is unknown.
    """
    if requested != "auto":
        return requested
    if EGL_VARIABLE in environment:
        return None
    device = _device_of_policy(cuda_index, environment)
    num_devices = None if device is None else count_devices()
    if device is None or num_devices is None or device < num_devices:
        return device
    logger.warning(
        "%s=%s would draw on EGL device %d, but EGL shows %s; EGL chooses the device",
        CUDA_VARIABLE, environment.get(CUDA_VARIABLE, "(unset)"), device, _range(num_devices),
    )  # fmt: skip
    return None


def _device_of_policy(cuda_index: int | None, environment: Mapping[str, str]) -> int | None:
    visible = [entry.strip() for entry in environment.get(CUDA_VARIABLE, "").split(",")]
    index = cuda_index or 0
    if index < len(visible) and visible[index].isdecimal():
        return int(visible[index])
    return cuda_index


def count_egl_devices() -> int | None:
    """Return how many devices EGL shows; None where there is no EGL that can be asked.

    Creates no context and loads neither MuJoCo nor PyOpenGL.
    """
    try:
        library = ctypes.CDLL("libEGL.so.1")
        find = library.eglGetProcAddress
    except (OSError, AttributeError):
        return None
    find.restype, find.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address = find(b"eglQueryDevicesEXT")
    if not address:
        return None
    number = ctypes.c_int(0)
    signature = ctypes.CFUNCTYPE(
        ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int)
    )
    return number.value if signature(address)(0, None, ctypes.byref(number)) else None


LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}
PACKAGES = {
    "egl": "libegl1 libegl-mesa0 libgl1-mesa-dri libgles2 libopengl0",
    "osmesa": "libosmesa6",
}


class RenderingError(OSError):
    """Headless rendering does not work on this machine; says what to change."""


def check_variables(environment: Mapping[str, str]) -> None:
    """Refuse what the environment says about drawing where it cannot be followed.

    Args:
        environment: As ``pi0.ript.env`` leaves it: backend in lower case, nothing empty.

    Raises:
        RenderingError: Names the variable, its value and what to do.
    """
    backend = environment[BACKEND_VARIABLE]
    if backend not in LIBRARIES:
        raise RenderingError(
            f"{BACKEND_VARIABLE} must be one of {', '.join(LIBRARIES)}, which draw without a screen, got "
            f"{backend!r}; unset it to draw with egl"
        )
    platform = environment[PLATFORM_VARIABLE]
    if platform != backend:
        raise RenderingError(
            f"{PLATFORM_VARIABLE}={platform} contradicts {BACKEND_VARIABLE}={backend}, which is egl where "
            f"it is not set; unset {PLATFORM_VARIABLE}"
        )
    device = environment.get(EGL_VARIABLE, "0")
    if not all(entry.strip().isdecimal() for entry in device.split(",")):
        raise RenderingError(
            f"{EGL_VARIABLE} must be the number of an EGL device, got {device!r}; unset it to let EGL choose"
        )


def check_device(environment: Mapping[str, str]) -> None:
    """Refuse an EGL device that does not exist here.

    Raises:
        RenderingError: Names what chooses the device, and what there is.
    """
    device = environment.get(EGL_VARIABLE)
    num_devices = count_egl_devices()
    if environment[BACKEND_VARIABLE] != "egl" or num_devices is None:
        return
    if num_devices == 0:
        raise RenderingError(_no_device(environment))
    if device is not None and int(device.split(",")[0]) >= num_devices:
        raise RenderingError(
            f"EGL device {device} is what {EGL_VARIABLE} or env.egl_device says, but EGL shows "
            f"{_range(num_devices)}; unset {EGL_VARIABLE}, or choose one of these"
        )


def require_rendering() -> dict[str, str]:
    """Load MuJoCo and robosuite, and create and free a GL context.

    Returns:
        What draws here, as ``read_driver`` does.

    Raises:
        RenderingError: Headless rendering does not work here; says what to change.
    """
    check_variables(os.environ)
    backend = os.environ[BACKEND_VARIABLE]
    if ctypes.util.find_library(LIBRARIES[backend]) is None:
        raise RenderingError(
            _advice(backend, f"needs lib{LIBRARIES[backend]}, which is not installed")
        )
    check_device(os.environ)
    with _without(CUDA_VARIABLE):  # robosuite takes it for a list of EGL devices
        return _probe_rendering(backend)


def read_driver() -> dict[str, str]:
    """Return what draws, by the names of ``GL_FACTS``; needs a current context.

    Mesa's software renderer and a GPU's driver round colors differently, and so do their versions.
    """
    from OpenGL import GL  # noqa: PLC0415 - PyOpenGL may be loaded only where rendering works

    read = {name: GL.glGetString(getattr(GL, constant)) for name, constant in GL_FACTS.items()}
    return {name: "unknown" if text is None else text.decode() for name, text in read.items()}


def _probe_rendering(backend: str) -> dict[str, str]:
    # A process that only plans rollouts must not pay for the simulator (2 s and 200 MB).
    try:
        from OpenGL.error import Error as GLError  # noqa: PLC0415
        from robosuite.utils.binding_utils import GLContext  # noqa: PLC0415
    except ImportError as error:
        if error.name is None:  # PyOpenGL's, about a library; Python's own names the module
            raise RenderingError(_advice(backend, f"found no working driver ({error})")) from None
        raise RenderingError(
            f"the simulator cannot be imported ({error}); run 'make setup' to repair the installation"
        ) from None
    except RuntimeError as error:
        raise RenderingError(f"the simulator cannot be imported ({error})") from None
    try:
        # Without it a context that cannot be created complains of a missing attribute when it is freed.
        GLContext._context = None  # noqa: SLF001 # pyright: ignore[reportAttributeAccessIssue]
        context = GLContext(max_width=8, max_height=8, device_id=-1)
        context.make_current()
        driver = read_driver()
        context.free()
    except (ImportError, RuntimeError, GLError) as error:
        raise RenderingError(_advice(backend, f"found no working driver ({error})")) from None
    return driver


@contextlib.contextmanager
def _without(variable: str) -> Iterator[None]:
    value = os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value


def _range(num_devices: int) -> str:
    return "only device 0" if num_devices == 1 else f"devices 0..{num_devices - 1}"


def _no_device(environment: Mapping[str, str]) -> str:
    chosen = [f"{name}={environment[name]}" for name in DRIVER_VARIABLES if name in environment]
    if chosen:
        return (
            f"EGL shows no device with {', '.join(chosen)}, which says where drivers are; unset it"
        )
    return _advice("egl", "shows no device")


def _advice(backend: str, problem: str) -> str:
    return f"{BACKEND_VARIABLE}={backend} {problem}: apt-get install {PACKAGES[backend]}"
