"""Simulators: the only folder that imports libero, robosuite or mujoco.

Importing anything below chooses headless rendering first, because mujoco and PyOpenGL read their
choice of library only once; a choice the user has made is kept.
"""

import logging
import os

os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("PYOPENGL_PLATFORM", os.environ["MUJOCO_GL"])
# robosuite advises on import to write a private settings file; nothing here reads one.
logging.getLogger("robosuite_logs").setLevel(logging.ERROR)
