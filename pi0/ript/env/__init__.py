"""Simulators: the only folder that imports libero, robosuite or mujoco.

Importing anything below chooses headless rendering first, because mujoco and PyOpenGL read their
choice of library only once; a choice the user has made is kept, in whatever spelling.
"""

import logging
import os

_backend = os.environ.get("MUJOCO_GL", "").strip().lower() or "egl"
os.environ["MUJOCO_GL"] = _backend
os.environ["PYOPENGL_PLATFORM"] = (
    os.environ.get("PYOPENGL_PLATFORM", "").strip().lower() or _backend
)
if not os.environ.get(
    "MUJOCO_EGL_DEVICE_ID", ""
).strip():  # a job script's variable that is not filled in
    os.environ.pop("MUJOCO_EGL_DEVICE_ID", None)
# robosuite advises on import to write a private settings file; nothing here reads one.
logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
