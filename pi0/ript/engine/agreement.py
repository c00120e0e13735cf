"""What ranks must have in common before anything is loaded."""

import importlib.metadata

import torch

from pi0.ript.config.schema import TrainConfig
from pi0.ript.engine.alone import Alone
from pi0.ript.engine.team import Team

PACKAGE = "pi0-ript"


def require_agreement(ranks: Alone | Team, config: TrainConfig, settings: str) -> None:
    """Refuse to train with ranks that differ, or that cannot share the groups of a step evenly.

    Args:
        ranks: The processes; they meet here.
        config: Of this rank.
        settings: Every setting as text.

    Raises:
        ValueError: On rank 0; one line that names the difference.
        SystemExit: On every other rank, without a word.
    """
    versions = f"{PACKAGE} {importlib.metadata.version(PACKAGE)}, torch {torch.__version__}"
    ranks.require_same("versions", versions, "install the same versions on every host")
    ranks.require_same("settings", settings, "start every rank with the same configuration")
    groups, world_size = config.algo.demo_batch_size, ranks.world_size
    if groups % world_size:
        fitting = [n for n in range(1, groups + 1) if groups % n == 0]
        raise ValueError(
            f"{world_size} ranks cannot share algo.demo_batch_size {groups} evenly; "
            f"start {' or '.join(map(str, fitting))}, "
            f"or set it to {-(-groups // world_size) * world_size}"
        )
