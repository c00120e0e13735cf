"""The files of one checkpoint: written and proven, read, found damaged."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pi0.checkpoint import save_trained
from pi0.formats.weight_files import TensorSource, write_safetensors
from pi0.ript.engine.engine import EngineState
from pi0.ript.engine.sharded_tensors import StoredShards, is_sharded, write_shards
from pi0.ript.interfaces import Ranks
from pi0.ript.train.checkpoints.checksums import find_difference, write_checksums
from pi0.ript.train.checkpoints.replay_files import is_replay
from pi0.ript.train.checkpoints.state import PolicySnapshot, StoredNumbers, TrainingState

POLICY_FOLDER = "pretrained_model"
STATE_FOLDER = "training_state"
STATE_FILE = f"{STATE_FOLDER}/state.json"
_OPTIMIZER_FILE = f"{STATE_FOLDER}/optimizer.safetensors"
_OPTIMIZER_PIECES = f"{STATE_FOLDER}/optimizer"
_OBJECTIVE_FILE = f"{STATE_FOLDER}/objective.safetensors"
_ACTING_FILE = f"{STATE_FOLDER}/acting.safetensors"
_CRITIC_FILE = f"{STATE_FOLDER}/critic.safetensors"  # of a run without a critic there is none
_REQUIRED = (STATE_FILE, _OBJECTIVE_FILE, _ACTING_FILE)


def load_training_state(checkpoint: Path) -> TrainingState:
    """Return the training state of a checkpoint folder.

    Raises:
        ValueError: If the checkpoint is missing files or damaged.
    """
    damage = find_damage(checkpoint)
    if damage:
        raise ValueError(f"checkpoint {checkpoint} cannot be read: {damage}; choose another one")
    numbers = StoredNumbers.read(checkpoint / STATE_FILE)
    return TrainingState(
        step=numbers.step,
        engine=EngineState(
            tensors=_load_optimizer(checkpoint),
            num_steps=numbers.num_optimizer_steps,
        ),
        sampler_position=numbers.sampler_position,
        counters=numbers.counters,
        config_hash=numbers.config_hash,
        objective=_load_tensors(checkpoint / _OBJECTIVE_FILE),
        acting=_load_tensors(checkpoint / _ACTING_FILE),
        critic=_load_tensors(critic) if (critic := checkpoint / _CRITIC_FILE).is_file() else {},
    )


def find_damage(checkpoint: Path) -> str:
    """Return what is wrong with a checkpoint folder in a few words, or an empty string."""
    missing = [name for name in _REQUIRED if not (checkpoint / name).is_file()]
    if (
        not (checkpoint / _OPTIMIZER_PIECES).is_dir()
        and not (checkpoint / _OPTIMIZER_FILE).is_file()
    ):
        missing.append(_OPTIMIZER_FILE)
    if missing:
        return f"{missing[0]} is missing"
    # a run goes on without what is replayed
    return find_difference(checkpoint, lambda name: not is_replay(name))


def _load_optimizer(checkpoint: Path) -> Mapping[str, Tensor]:
    shards = checkpoint / _OPTIMIZER_PIECES
    return StoredShards(shards) if shards.is_dir() else _load_tensors(checkpoint / _OPTIMIZER_FILE)


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no readable safetensors file ({error})") from None


def write_optimizer(folder: Path, engine: EngineState, ranks: Ranks) -> None:
    """Write the state of the optimizer into a folder that does not exist yet."""
    if ranks.rank == 0:
        (folder / STATE_FOLDER).mkdir(parents=True)
    if not is_sharded(engine.tensors):
        if ranks.rank == 0:
            _write_tensors(folder / _OPTIMIZER_FILE, engine.tensors)
        return
    ranks.gather_text("the folder is there")
    write_shards(folder / _OPTIMIZER_PIECES, engine.tensors, ranks)


def write_rest(folder: Path, snapshot: PolicySnapshot, state: TrainingState) -> None:
    """Write everything else and prove that it is on the disk."""
    save_trained(
        snapshot.policy,
        folder / POLICY_FOLDER,
        snapshot.trained,
        snapshot.base,
        is_whole=snapshot.is_whole,
    )
    _write_tensors(folder / _OBJECTIVE_FILE, state.objective)
    _write_tensors(folder / _ACTING_FILE, state.acting)
    if state.critic:
        _write_tensors(folder / _CRITIC_FILE, state.critic)
    StoredNumbers(
        step=state.step,
        num_optimizer_steps=state.engine.num_steps,
        sampler_position=state.sampler_position,
        counters=dict(state.counters),
        config_hash=state.config_hash,
    ).write(folder / STATE_FILE)
    write_checksums(folder)
    difference = find_difference(folder)
    if difference:
        raise OSError(f"read back from the disk, {difference}")


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors of the CPU one after the other: safetensors' own writer holds every byte a second time."""
    sources = {
        name: TensorSource(
            shape=tuple(tensor.shape), dtype=tensor.dtype, read=lambda tensor=tensor: tensor
        )
        for name, tensor in tensors.items()
    }
    write_safetensors(path, sources)
