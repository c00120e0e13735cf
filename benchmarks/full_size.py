"""The real pi0 from file to file: random weights of its size are loaded, act, learn, are killed, go on, leave.

    python benchmarks/full_size.py [--model middle|full] [--json FILE] [--folder DIR] [--steps 4] [--skip STAGE ...]

Every stage is a process of its own, so that its peak is its own: what ``write`` leaves in openpi's layout is loaded,
answers two rows and trains its action expert on them with made-up advantages (``learn``); the process is killed with
SIGKILL while it writes its second checkpoint; another one resumes from the first and must reach the same bits
(``resume``); the result is exported to LeRobot's layout and read back (``export``); what was written first takes one step of
``ript sft`` on a demonstration (``sft``); one row's action chunk is compared with transformers' ``sample_actions``
(``bfloat16``, ``float32``). Seconds, bytes on disk and peaks of anonymous memory stand beside what ``ript plan`` and
``ript sft --plan`` forecast. ``full`` takes 17 GB of memory and 25 GB of disk.
"""

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.measure import add_output_arguments, table, write_json

STAGES = ("write", "learn", "resume", "export", "sft", "bfloat16", "float32")
BEGUN = "checkpoints/.writing-2"
GB = 1e9


def run_stage(
    stage: str, folder: Path, size: str, num_steps: int, *, killed_at: Path | None = None
) -> dict[str, Any]:
    """Run a stage in a process of its own; return its seconds and what it says in its last line.

    Args:
        stage: Of ``benchmarks.network.full_size_stages``.
        folder: That all stages share.
        size: Of the model.
        num_steps: Denoise steps of what is learned from.
        killed_at: Kill the process as soon as this is there.

    Raises:
        RuntimeError: It ended otherwise.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.network.full_size_stages",
            stage,
            str(folder),
            size,
            str(num_steps),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    while killed_at is not None and process.poll() is None:
        if killed_at.exists():
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    said, _ = process.communicate()
    if process.returncode != (-signal.SIGKILL if killed_at else 0):
        raise RuntimeError(f"{stage} ended with status {process.returncode}")
    return json.loads(said.splitlines()[-1]) | {"seconds": time.perf_counter() - started}


def measure(folder: Path, size: str, num_steps: int, skipped: Sequence[str]) -> dict[str, Any]:
    """Run the stages that are not skipped, printing each as soon as it has ended."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        if stage in skipped:
            continue
        killed_at = folder / "run" / BEGUN if stage == "learn" else None
        found[stage] = run_stage(stage, folder, size, num_steps, killed_at=killed_at)
        print(f"{stage}: {json.dumps(found[stage])}", flush=True)
        for done in {"export": ("run", "lerobot"), "sft": ("sft",)}.get(stage, ()):
            shutil.rmtree(folder / done)
    if {"learn", "resume"} <= found.keys():
        found["is_same_bits"] = found["learn"]["digest"] == found["resume"]["digest"]
    return found


def forecasts(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what was forecast beside what was measured, in bytes."""
    rows = [
        (name, stage["forecast"][name], stage["measured"][name])
        for stage in (found.get("learn"), found.get("resume"), found.get("sft"))
        if stage is not None
        for name in stage["forecast"]
    ]
    return [
        {"what": what, "forecast_gb": forecast / GB, "measured_gb": measured / GB,
         "ratio": forecast / measured}
        for what, forecast, measured in rows
    ]  # fmt: skip


def main() -> None:
    """Run everything, print both tables and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add_output_arguments(parser)
    parser.add_argument("--model", choices=("tiny", "middle", "full"), default="middle")
    parser.add_argument("--folder", type=Path, help="on a large disk; default a temporary one")
    parser.add_argument("--skip", nargs="+", choices=STAGES[1:], default=[])
    parser.add_argument(
        "--steps", type=int, default=4, help="denoise steps of what is learned from"
    )
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="full_size_", dir=arguments.folder))
    try:
        found = measure(folder, arguments.model, arguments.steps, arguments.skip)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    found["forecasts"] = forecasts(found)
    if found["forecasts"]:
        print(table(tuple(found["forecasts"][0]), [list(e.values()) for e in found["forecasts"]]))
    stages = [
        (name, found[name]["seconds"], found[name]["peak_gb"]) for name in STAGES if name in found
    ]
    print(table(("stage", "seconds", "peak_gb"), stages))
    write_json(
        arguments.json,
        {"model": arguments.model, "steps": arguments.steps, **found},
        is_quick=arguments.quick,
    )
    if not found.get("is_same_bits", True):
        sys.exit("error: the resumed run has other bits than the one that was killed")


if __name__ == "__main__":
    main()
