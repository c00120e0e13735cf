"""Python, the packages and the programs that a run needs."""

import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import numpy as np
import torch
from av.error import FFmpegError
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from pi0.ript.diagnose.finding import Finding
from pi0.ript.report.video import CODEC, encode_video

PROJECT = "pi0-ript"
NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")
REINSTALL = "make setup"


def check_python() -> Finding:
    """Compare the interpreter with what the project declares."""
    running = platform.python_version()
    needed = distribution(PROJECT).metadata["Requires-Python"]
    if running in SpecifierSet(needed):
        return Finding(name="python", status="ok", text=f"{running} ({sys.executable})")
    return Finding(
        name="python",
        status="error",
        text=f"{running} ({sys.executable}), {needed} is needed",
        fix=f"rm -r .venv && {REINSTALL}, with Python {needed} on the PATH",
    )


def check_packages() -> list[Finding]:
    """Compare every installed package with what the project declares; torch has its own line."""
    declared = [Requirement(line) for line in distribution(PROJECT).requires or []]
    needed = [each for each in declared if each.marker is None or each.marker.evaluate()]
    wrong = {each.name: text for each in needed if (text := _mismatch(each))}
    findings = [_torch(wrong)]
    findings += [
        Finding(name=name, status="error", text=text, fix=REINSTALL)
        for name, text in wrong.items()
        if name != "torch"
    ]
    if not set(wrong) - {"torch"}:
        text = f"{len(needed)} have the versions that {PROJECT} {version(PROJECT)} declares"
        findings.append(Finding(name="packages", status="ok", text=text))
    return findings


def check_gpu() -> Finding:
    """Say what torch can compute on."""
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
        text = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
        return Finding(name="gpu", status="ok", text=f"{text}, CUDA {torch.version.cuda}")
    if NVIDIA_DRIVER.is_file():
        return Finding(
            name="gpu",
            status="warning",
            text=f"there is an NVIDIA driver, but torch {version('torch')} finds no GPU",
            fix="nvidia-smi must list a card; then 'make clean setup' for a CUDA build of torch",
        )
    return Finding(name="gpu", status="ok", text="none; policy and updates run on the CPU")


def check_videos() -> Finding:
    """Encode a video of one image."""
    try:
        encode_video([np.zeros((64, 64, 3), np.uint8)], frames_per_s=10)
    except (FFmpegError, ValueError, OSError) as error:
        return Finding(
            name="videos",
            status="warning",
            text=f"videos cannot be written ({' '.join(str(error).split())})",
            fix="pip install --force-reinstall av",
        )
    return Finding(name="videos", status="ok", text=f"{CODEC} of av {version('av')}")


def check_launchers() -> list[Finding]:
    """Say what is there for several devices and several hosts; nothing of it is needed on one."""
    torchrun = shutil.which("torchrun", path=str(Path(sys.executable).parent))
    several_devices = Finding(
        name="torchrun",
        status="ok" if torchrun else "warning",
        text=torchrun or "missing beside the interpreter; needed for several GPUs only",
        fix="" if torchrun else REINSTALL,
    )
    try:
        text = version("ray")
    except PackageNotFoundError:
        text = "not installed; needed for simulators on other hosts only"
    return [several_devices, Finding(name="ray", status="ok", text=text)]


def _torch(wrong: dict[str, str]) -> Finding:
    if "torch" in wrong:
        lines = map(Requirement, distribution(PROJECT).requires or [])
        needed = next(str(each) for each in lines if each.name == "torch")
        return Finding(
            name="torch", status="error", text=wrong["torch"], fix=f"pip install '{needed}'"
        )
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    return Finding(name="torch", status="ok", text=f"{version('torch')}, {build}")


def _mismatch(requirement: Requirement) -> str:
    """Return what is wrong with an installed package, else nothing."""
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"is not installed, {requirement.specifier} is needed"
    if requirement.specifier.contains(installed, prereleases=True):
        return ""
    return f"{installed} is installed, {requirement.specifier} is needed"
