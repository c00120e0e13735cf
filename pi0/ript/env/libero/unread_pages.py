"""Memory of a compiled model that nothing reads once its textures and meshes have been uploaded.

Of 270 MB that the model of a LIBERO scene takes it is 230 MB: the pixels of textures, normals and faces of meshes, and the
trees over the faces in which MuJoCo looks for rays and signed distances. Collisions read vertices, hulls and the trees
over the shapes of a body, which stay.
"""

# pyright: reportAttributeAccessIssue=false
# (mujoco's extension module comes without types.)

import ctypes
import mmap
import sys

import mujoco
from numpy.typing import NDArray

DRAWN = (
    "tex_data",
    "mesh_normal",
    "mesh_texcoord",
    "mesh_face",
    "mesh_facenormal",
    "mesh_facetexcoord",
)
TREES = ("bvh_aabb", "bvh_child", "bvh_depth", "bvh_nodeid")


def release_unread(model: mujoco.MjModel) -> None:
    """Return to the system what only drawing has read; it reads as zeros from here on.

    The model can still be simulated, and drawn by the contexts that there are. No other context can be made.
    """
    if sys.platform != "linux":
        return  # elsewhere the advice does not free memory
    first = _first_of_meshes(model)
    for name in DRAWN:
        _release(getattr(model, name))
    for name in TREES:
        _release(getattr(model, name)[first:])


def _first_of_meshes(model: mujoco.MjModel) -> int:
    """Return where the trees of meshes begin, behind those of the bodies."""
    ends = (model.body_bvhadr + model.body_bvhnum)[model.body_bvhnum > 0]
    return int(ends.max(initial=0))


def _release(array: NDArray) -> None:
    """Give up the pages that lie wholly within an array."""
    page = mmap.PAGESIZE
    start = -(-array.ctypes.data // page) * page
    stop = (array.ctypes.data + array.nbytes) // page * page
    if stop > start:
        library = ctypes.CDLL(None, use_errno=True)
        if library.madvise(
            ctypes.c_void_p(start), ctypes.c_size_t(stop - start), mmap.MADV_DONTNEED
        ):
            raise OSError(ctypes.get_errno(), "madvise")
