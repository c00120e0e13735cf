"""What the programs that plan share: which device learns, in which precision, and how a plan is printed."""

from collections.abc import Callable, Mapping, Sequence

import torch

from pi0.card import PolicyCard
from pi0.checkpoint import find_folder
from pi0.formats.folder import Contents, read_folder
from pi0.precision import choose_on_gpu, computes_bfloat16, is_precision_given
from pi0.ript.config.schema import TrainConfig
from pi0.ript.diagnose.checkpoint import choices_of
from pi0.ript.diagnose.memory_plan import GIB, GPU_GIB, WITHOUT_BFLOAT16, Item, MemoryKind

Advise = Callable[[list[Item]], str]


def read_checkpoint(config: TrainConfig) -> Contents:
    """Read everything of the checkpoint but its tensors."""
    return read_folder(find_folder(config.policy_path), choices_of(config))


def card_on_gpu(config: TrainConfig, contents: Contents, gpu: str | None) -> PolicyCard:
    """Return the policy's card with the precision that the named GPU, else the one here, computes in; say which."""
    has_bfloat16 = computes_bfloat16() if gpu is None else gpu not in WITHOUT_BFLOAT16
    is_given = is_precision_given(contents.layout, config.policy.overrides.chosen())
    card, reason = choose_on_gpu(contents.card, is_given=is_given, has_bfloat16=has_bfloat16)
    print(f"precision on the GPU: {reason}")
    return card


def device_bytes(gpu: str | None, requested: str) -> int | None:
    """Return the memory of the named GPU, else of the one that is there; None where learning uses the CPU."""
    if gpu is not None:
        return GPU_GIB[gpu] * GIB
    if requested == "cpu" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_properties(0).total_memory


def print_memory(items: Sequence[Item], device: int | None, host: int, advise: Advise) -> None:
    """Print what device and host must hold, whether it fits, and where it does not, what to change first.

    Args:
        items: The plan.
        device: Bytes of the GPU; None where learning uses the CPU.
        host: Bytes that the host has left.
        advise: Gives the remedy for some items.
    """
    places: list[tuple[str, set[MemoryKind], int]] = [
        ("device", {"device"}, device or 0),
        ("host", {"host"}, host),
    ]
    if device is None:
        places = [("host (learning on the CPU)", {"device", "host"}, host)]
    for title, kinds, available in places:
        some = [item for item in items if item.memory in kinds]
        if not _print_items(title, some, available):
            print(f"  to fit: {advise(some)}")


def _print_items(title: str, items: Sequence[Item], available: int) -> bool:
    needed = sum(item.num_bytes for item in items)
    print(f"{title}")
    for item in items:
        print(_line(item.name, item.num_bytes))
    verdict = "fits" if needed <= available else "DOES NOT FIT"
    print(f"{_line('together', needed)} of {available / GIB:.2f} GiB: {verdict}")
    return needed <= available


def print_disk(sizes: Mapping[str, int]) -> None:
    """Print what checkpoints take, bytes by name."""
    print("disk")
    for name, num_bytes in sizes.items():
        print(_line(name, num_bytes))


def _line(name: str, num_bytes: int) -> str:
    return f"  {name:<18}{num_bytes / GIB:10.2f} GiB"
