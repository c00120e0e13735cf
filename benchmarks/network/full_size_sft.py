"""The stage of ``benchmarks/full_size.py`` that fine-tunes: one step on one demonstration, by ``ript sft``."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks.parts.measure import AnonymousMemory
from pi0.formats.folder import Choices, read_folder
from pi0.ript.diagnose.checkpoint import choices_of
from pi0.ript.diagnose.memory_plan import Place
from pi0.ript.report.jsonl import METRICS_NAME, read_metrics
from pi0.ript.scripts import sft
from pi0.ript.scripts.parts.fine_tuning import sft_config
from pi0.ript.scripts.parts.flags import from_flags
from pi0.ript.sft.plan import plan_fine_tuning
from pi0.ript.sft.settings import SftSettings

SUITE, TASK_ID = "libero_goal", 7  # turn on the stove
VLM = "model.vlm."
NUM_FRAMES, MICRO_BATCH = 4, 2


def fine_tune(folder: Path) -> dict[str, Any]:
    """Record a demonstration as the policy wants it, take a step, compare what was written with what was given."""
    source, data, output = folder / "source", folder / "demonstration", folder / "sft"
    subprocess.run(
        [
            sys.executable, "-m", "pi0.ript.scripts.cli", "demos", "--policy", source, "--format", "lerobot",
            "--suite", SUITE, "--tasks", str(TASK_ID), "--per_task", "1", "--images", "png", "--output_dir", data,
        ],
        check=True,
        stdout=sys.stderr,
    )  # fmt: skip
    flags = [
        f"--policy={source}", f"--data={data}", f"--output_dir={output}", "--num_steps=1", "--warmup_steps=0",
        f"--frames_per_step={NUM_FRAMES}", f"--micro_batch={MICRO_BATCH}",
    ]  # fmt: skip
    watch = AnonymousMemory()
    begin = watch.now()
    sft.main(flags)
    arguments = sft.parse(flags)
    settings: SftSettings = from_flags(arguments, SftSettings)
    config = sft_config(arguments, settings)
    given = read_folder(source, choices_of(config))
    items = plan_fine_tuning(config, settings, given.card, given.config, Place())
    (metrics,) = read_metrics(output / METRICS_NAME)
    written = read_folder(output, Choices()).tensors
    changed = [
        name
        for name, stored in written.items()
        if not torch.equal(stored.read().float(), given.tensors[name].read().float())
    ]
    return {
        "loss": metrics["sft/loss"],
        "step_s": metrics["time/update_s"],
        "num_tensors": len(written),
        "num_changed": len(changed),
        "only_expert_changed": not any(name.startswith(VLM) for name in changed),
        "forecast": {
            "fine-tuning": sum(i.num_bytes for i in items if i.name != "Python and torch")
        },
        "measured": {"fine-tuning": watch.peak - begin},
        "peak_gb": watch.peak / 1e9,
    }
