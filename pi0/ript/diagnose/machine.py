"""Cores, memory, shared memory and disk: what there is, and what it is enough for."""

import errno
import os
import tempfile
from pathlib import Path

from pi0.records import ObservationSpec
from pi0.ript.config.schema import TrainingConfig
from pi0.ript.diagnose.finding import Finding
from pi0.ript.env.resources import ROOT, choose_sizing, predict_memory, read_machine
from pi0.ript.os_errors import remedy

GIB = 2**30
MIB = 2**20
SHARED_MEMORY = Path("/dev/shm")
GROUP_SIZE = 8  # rollouts per initial state, as the shipped configurations have it
# Two images as LIBERO's own datasets have them, the most that published policies are given.
EXACT_SPEC = ObservationSpec(cameras=("agentview", "robot0_eye_in_hand"), height=256, width=256)
LITTLE_SHARED_MEMORY = GIB
LEAST_SHARED_MEMORY = 64 * MIB  # what containers have by default
BYTES_PER_PARAMETER = 12  # of a checkpoint: weights and both moments of AdamW in float32
LEAST_DISK = GIB
PROBE_BYTES = MIB


def check_memory(spec: ObservationSpec = EXACT_SPEC, root: Path = ROOT) -> Finding:
    """Say how many simulators fit, counting every limit of the container.

    Args:
        spec: Which images are drawn.
        root: Where ``proc`` and ``sys`` are mounted.
    """
    machine = read_machine(root)
    least = predict_memory(1, 1, 1, spec)
    there = f"{machine.num_cores} cores, {machine.memory_bytes / 1e9:.1f} GB of memory available"
    if machine.memory_bytes < least:
        return Finding(
            name="memory",
            status="error",
            text=f"{there}; one simulator needs up to {least / 1e9:.1f} GB",
            fix="end other programs or give the container more memory (docker run --memory)",
        )
    sizing = choose_sizing(
        "auto", "auto", max_scenes=1, num_tasks=1, group_size=GROUP_SIZE, spec=spec, machine=machine
    )
    taken = predict_memory(sizing.num_workers, sizing.num_slots, sizing.scenes_per_worker, spec)
    text = (
        f"{there}; for one task, {sizing.num_slots} simulator slots on {sizing.num_workers} workers "
        f"fit, which take up to {taken / 1e9:.1f} GB"
    )
    if sizing.num_workers < machine.num_cores:
        return Finding(
            name="memory",
            status="warning",
            text=f"{text}; more cores than memory for workers",
            fix="give the container more memory, or go on with fewer simulators (auto does so)",
        )
    return Finding(name="memory", status="ok", text=text)


def check_shared_memory(path: Path = SHARED_MEMORY) -> Finding:
    """Check the memory that NCCL and Ray share between processes.

    The simulators' images need none of it: they travel through anonymous memory of their own.
    """
    if not path.is_dir():
        free = 0
    else:
        stats = os.statvfs(path)
        free = stats.f_bavail * stats.f_frsize
    text = f"{free / MIB:.0f} MiB free in {path}"
    if free >= LITTLE_SHARED_MEMORY:
        return Finding(name="shared memory", status="ok", text=text)
    return Finding(
        name="shared memory",
        status="error" if free < LEAST_SHARED_MEMORY else "warning",
        text=f"{text}; torchrun with several GPUs and Ray need {LITTLE_SHARED_MEMORY // MIB} MiB",
        fix=f"mount -o remount,size=8g {path}, or docker run --shm-size=8g",
    )


def check_write_access(output_dir: Path) -> Finding:
    """Write a little where runs will go, and leave nothing.

    Args:
        output_dir: Need not exist; the folder that it will be made in is tried then.
    """
    folder = _existing(output_dir)
    try:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return Finding(
            name="disk",
            status="error",
            text=f"{folder} cannot be written: {error.strerror}",
            fix=remedy(error),
        )
    return Finding(name="disk", status="ok", text=f"{folder} can be written")


def check_disk(output_dir: Path, num_parameters: int) -> Finding:
    """Write a little where runs will go, and compare the space with what checkpoints take.

    Args:
        output_dir: Where runs go; need not exist.
        num_parameters: Of the policy.
    """
    access = check_write_access(output_dir)
    if access.status == "error":
        return access
    folder, free = free_bytes(output_dir)
    checkpoint = BYTES_PER_PARAMETER * num_parameters
    kept = TrainingConfig().keep_checkpoints + 1  # one more while the oldest is still there
    text = (
        f"{free / 1e9:.2f} GB free in {folder}; a checkpoint takes up to {checkpoint / 1e9:.2f} GB"
    )
    if free >= max(LEAST_DISK, kept * checkpoint):
        return Finding(name="disk", status="ok", text=text)
    return Finding(
        name="disk",
        status="error" if free < checkpoint else "warning",
        text=f"{text}, and {kept} are kept",
        fix="free space there, choose another output_dir, or lower training.keep_checkpoints",
    )


def free_bytes(output_dir: Path) -> tuple[Path, int]:
    """Return the folder that exists of a path, and the bytes that may still be written there."""
    folder = _existing(output_dir)
    stats = os.statvfs(folder)
    return folder, stats.f_bavail * stats.f_frsize


def _existing(path: Path) -> Path:
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
