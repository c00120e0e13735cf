"""What the scenes of one process draw with: one GL context, each texture and each mesh in it once.

Scenes of a suite show the same robot, table and objects. A driver that draws in software keeps what it is given
in the memory of the process: 470 MB of textures and meshes for one scene, of which the next one needs nearly all again.
"""

# pyright: reportAttributeAccessIssue=false, reportOptionalMemberAccess=false
# (mujoco's extension module, robosuite and PyOpenGL come without types.)

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import mujoco
from numpy.typing import NDArray
from OpenGL import GL
from robosuite.utils.binding_utils import GLContext

NUM_LISTS = 2  # per mesh: the mesh and its convex hull
TEXTURE = ("type", "height", "width", "nchannel")
NAMES = 2**32  # MuJoCo adds to names of lists as unsigned numbers of 32 bits

Key = bytes
"""The content of a texture or mesh, hashed."""


@dataclass(slots=True)
class Shelf:
    """GL objects by content, kept while a scene draws with them.

    Attributes:
        make: Uploads a texture or mesh of a model; returns its name.
        delete: Frees a name.
    """

    make: Callable[[mujoco.MjModel, mujoco.MjrContext, int], int]
    delete: Callable[[int], None]
    _names: dict[Key, int] = field(default_factory=dict)
    _users: dict[Key, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._names)

    def take(self, key: Key, model: mujoco.MjModel, context: mujoco.MjrContext, index: int) -> int:
        """Return the name of a texture or mesh, which is uploaded if no scene has it; one use more."""
        if key not in self._names:
            self._names[key] = self.make(model, context, index)
        self._users[key] = self._users.get(key, 0) + 1
        return self._names[key]

    def give_back(self, key: Key) -> None:
        """Note one use less; after the last the object is freed."""
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self.delete(self._names.pop(key))


class SharedDrawing:
    """One GL context for scenes of one thread. Free while no scene is open.

    Example: ``context = drawing.open(model)`` draws like ``mujoco.MjrContext(model, scale)`` while the GL context is
    current; ``drawing.close(context)`` at the end.
    """

    def __init__(self) -> None:
        """Create nothing yet."""
        self._gl: GLContext | None = None
        self.textures = Shelf(_upload_texture, lambda name: GL.glDeleteTextures([name]))
        self.meshes = Shelf(_upload_mesh, lambda name: GL.glDeleteLists(name, NUM_LISTS))
        self._uses: dict[mujoco.MjrContext, tuple[list[Key], list[Key]]] = {}

    def make_current(self) -> None:
        """Make the GL context current; needs an open scene."""
        self._gl.make_current()

    def open(self, model: mujoco.MjModel) -> mujoco.MjrContext:
        """Return what draws a model; ``model.vis`` says how. The GL context is current then."""
        if self._gl is None:
            size = model.vis.global_
            self._gl = GLContext(max_width=size.offwidth, max_height=size.offheight, device_id=-1)
        self.make_current()
        # Convex hulls are not drawn. MuJoCo frees the name of a hull that is missing: another context would get it, and
        # both would free it. So all have one without faces.
        assert model.nmeshgraph > 0, "LIBERO's robot has hulls"
        with _shown(model, mesh_graphadr=0, mesh_graph=0):
            with _shown(model, tex_width=1, tex_height=1, mesh_facenum=0):
                context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
            textures = self._share_textures(model, context)
            meshes = self._share_meshes(model, context)
        self._uses[context] = textures, meshes
        return context

    def close(self, context: mujoco.MjrContext) -> None:
        """Free what ``open`` returned, what only its scene has drawn, and after the last scene the GL context."""
        self.make_current()
        textures, meshes = self._uses.pop(context)
        context.texture[:] = 0  # else they would be freed with the context
        context.free()
        for key in textures:
            self.textures.give_back(key)
        for key in meshes:
            self.meshes.give_back(key)
        if not self._uses:
            self._gl.free()
            self._gl = None

    def _share_textures(self, model: mujoco.MjModel, context: mujoco.MjrContext) -> list[Key]:
        GL.glDeleteTextures(context.texture[: model.ntex])
        keys = [texture_key(model, index) for index in range(model.ntex)]
        for index, key in enumerate(keys):
            context.texture[index] = self.textures.take(key, model, context, index)
        return keys

    def _share_meshes(self, model: mujoco.MjModel, context: mujoco.MjrContext) -> list[Key]:
        keys = [mesh_key(model, index) for index in range(model.nmesh)]
        for index, key in enumerate(keys):
            shared = self.meshes.take(key, model, context, index)
            GL.glNewList(context.baseMesh + NUM_LISTS * index, GL.GL_COMPILE)
            GL.glCallList(shared)
            GL.glEndList()
        return keys


def texture_key(model: mujoco.MjModel, index: int) -> Key:
    """Return what tells a texture from others."""
    kind, *shape = [int(getattr(model, f"tex_{name}")[index]) for name in TEXTURE]
    start = model.tex_adr[index]
    return _key((kind, *shape), [model.tex_data[start : start + math.prod(shape)]])


def mesh_key(model: mujoco.MjModel, index: int) -> Key:
    """Return what tells a mesh from others when it is drawn."""
    parts = [("vert", "vert"), ("normal", "normal"), ("face", "face"), ("facenormal", "face")]
    has_texture = model.mesh_texcoordadr[index] >= 0
    if has_texture:
        parts += [("texcoord", "texcoord"), ("facetexcoord", "face")]
    arrays = [_rows(model, index, name, counted) for name, counted in parts]
    return _key((has_texture, *map(len, arrays)), arrays)


def _rows(model: mujoco.MjModel, index: int, name: str, counted: str) -> NDArray:
    """Return a mesh's rows of an array that lies like the one that MuJoCo counts."""
    start = getattr(model, f"mesh_{counted}adr")[index]
    return getattr(model, f"mesh_{name}")[
        start : start + getattr(model, f"mesh_{counted}num")[index]
    ]


def _key(shape: tuple[int, ...], arrays: list[NDArray]) -> Key:
    found = hashlib.sha256(repr(shape).encode())
    for array in arrays:
        found.update(array.data)
    return found.digest()


@contextmanager
def _shown(model: mujoco.MjModel, **values: int) -> Iterator[None]:
    """Show other values in arrays of a model for a while."""
    saved = {name: getattr(model, name).copy() for name in values}
    try:
        for name, value in values.items():
            getattr(model, name)[:] = value
        yield
    finally:
        for name, array in saved.items():
            getattr(model, name)[:] = array


def _upload_texture(model: mujoco.MjModel, context: mujoco.MjrContext, index: int) -> int:
    context.texture[index] = GL.glGenTextures(1)
    mujoco.mjr_uploadTexture(model, context, index)
    return int(context.texture[index])


def _upload_mesh(model: mujoco.MjModel, context: mujoco.MjrContext, index: int) -> int:
    name: int = GL.glGenLists(NUM_LISTS)  # pyright: ignore[reportAssignmentType]
    own = context.baseMesh
    context.baseMesh = (name - NUM_LISTS * index) % NAMES
    mujoco.mjr_uploadMesh(model, context, index)
    context.baseMesh = own
    return name
