"""Write measured numbers into docs/engine.md: ``python benchmarks/publish.py [FOLDER]``.

Replaces the last section of the document by tables of what ``make bench`` left in the folder, each
with the command that measured it, and copies the plots.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.document import markdown
from benchmarks.job import ROOT
from pi0.ript.atomic import write_atomically

DOCUMENT = ROOT / "docs" / "engine.md"
IMAGES = ROOT / "docs" / "images"
HEADING = "## Measurements"
PLOTS = ("engine_rollout.png", "engine_slots.png")
SETTINGS = {
    "exact": "this engine, two 256 px cameras, exact",
    "fast": "this engine, two 256 px cameras, fast",
    "quickstart": "this engine, one 96 px camera, fast",
}


def read(folder: Path, name: str) -> dict[str, Any]:
    """Return the measurements of one program; the error names what to run where there are none."""
    path = folder / f"{name}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; run make bench first")
    return json.loads(path.read_text())


def machine(found: dict[str, Any]) -> list[str]:
    """Return where the measurements come from."""
    m = found["machine"]
    return [
        f"{m['cpu']}, {m['cores']} cores, {m['memory_gib']:.0f} GiB, no GPU; MuJoCo {m['mujoco']}, "
        f"robosuite {m['robosuite']}. Measured by `make bench{'' if found['is_quick'] else ' BENCH='}`; "
        "where more was measured, the text names it.",
        "",
    ]


def exactness(found: dict[str, Any]) -> list[str]:
    """Return how much was compared and what differed."""
    tasks = found["tasks"]
    steps, observations = (
        sum(task[key] for task in tasks) for key in ("num_steps", "num_observations")
    )
    return [
        f"`benchmarks/exactness.py`{'' if found['is_quick'] else ' in full'}: {len(tasks)} tasks, {steps} control steps, {observations} observations of two "
        f"cameras, differences: {found['num_differences']}.",
        "",
    ]


def rollout(found: dict[str, Any]) -> list[str]:
    """Return the comparison of whole episodes and where the time goes."""
    rates, estimates = found["episodes_per_minute"], found["limit_episodes_per_minute"]
    mujoco = found["limit_with_mujoco_images_episodes_per_minute"]
    others = {"subproc": "`SubprocVectorEnv`", "async": "`AsyncVectorEnv`"}
    rows = [
        [f"{title}, two 256 px cameras", f"{rates[name]:.1f}",
         f"{rates[name] / rates['subproc']:.1f} x", "", "", ""]
        for name, title in others.items()
    ]  # fmt: skip
    for name, title in SETTINGS.items():
        rate = rates[f"engine_{name}"]
        rows.append([title, f"{rate:.1f}", f"{rate / rates['subproc']:.1f} x", f"{estimates[name]:.0f}",
                     f"{100 * rate / estimates[name]:.0f} %", f"{mujoco[name]:.0f}"])  # fmt: skip
    header = ["100 control steps, 2 processes", "episodes per minute", "speed-up", "estimate",
              "of estimate", "estimate with MuJoCo's images"]  # fmt: skip
    shares = found["shares_of_core_time"]
    parts = [
        [part, *(f"{shares[name][part]:.1f}" for name in SETTINGS)] for part in shares["exact"]
    ]
    threads = ", ".join(f"{side} `{t['chosen']}`" for side, t in found["threads"].items())
    return [
        "`benchmarks/rollout.py`:",
        *markdown(header, rows),
        "![whole episodes per minute](images/engine_rollout.png)",
        *markdown(["share of core time, percent", *SETTINGS], parts),
        *_spread(found),
        f"Exact rendering does {found['env_steps_per_s']:.0f} control steps per second. Best threads "
        f"of those tried: {threads}.",
        "",
    ]


def _spread(found: dict[str, Any]) -> list[str]:
    """Return how much the rounds of the vector environments differ, and the comparison with short chunks."""
    spread, short = found["spread_episodes_per_minute"]["subproc"], found["short_chunks"]
    return [
        f"`SubprocVectorEnv` is the median of {spread['rounds']} rounds, {spread['slowest']:.1f} to "
        f"{spread['fastest']:.1f}. Chunks of {short['chunk']}, exact: {short['engine_exact']:.1f} against "
        f"{short['subproc']:.1f} ({short['subproc_slowest']:.1f} to {short['subproc_fastest']:.1f}) episodes per "
        f"minute, {short['speedup']:.1f} x. All sides draw with the same OpenGL, on this machine in software.",
        "",
    ]


def engine(found: dict[str, Any]) -> list[str]:
    """Return steps, restores and memory."""
    steps = [
        [f"control step, `{task}`", f"{1e3 * s['robosuite_s']:.2f}", f"{1e3 * s['engine_s']:.2f}",
         f"{s['speedup']:.1f} x"]
        for task, s in found["steps"].items()
    ]  # fmt: skip
    r, m = found["restore"], found["memory"]
    restores = [
        [f"restore, state {name}", f"{1e3 * r['libero_s']:.0f}", f"{1e3 * r[f'{key}_s']:.2f}",
         f"{r[f'speedup_{key}']:.0f} x"]
        for key, name in (
            ("cold", "new"),
            ("undrawn", "new, without its two images"),
            ("cached", "known"),
        )
    ]  # fmt: skip
    images = [
        [name, *(f"{1e3 * p[part]:.1f}" for part in ("update_s", "draw_s", "read_s"))]
        for name, p in found["images"].items()
    ]
    memory = [
        ["2 workers with 2 slots", f"{m['workers_mb_2_slots']:.0f} MB"],
        ["2 workers with 16 slots", f"{m['workers_mb_16_slots']:.0f} MB"],
        ["each further slot", f"{m['further_slot_mb']:.1f} MB"],
        [f"{m['num_restores']} restores", f"{m['restores_growth_percent']:+.1f} %"],
        [f"{m['num_evictions']} evictions of a scene", f"{m['evictions_growth_percent']:+.1f} %"],
    ]
    return [
        "`benchmarks/engine.py`:",
        *markdown(["milliseconds, median", "LIBERO", "engine", "speed-up"], steps + restores),
        *markdown(["one image by MuJoCo, ms", "update", "draw", "read"], images),
        *markdown(
            [f"memory{'' if m['num_evictions'] < 20 else ', `engine.py --memory`'}", ""], memory
        ),
    ]


def scheduler(found: dict[str, Any]) -> list[str]:
    """Return ready-set batching against lock-step."""
    rates = found["episodes_per_minute"]
    titles = {
        "ready": "all that are ready",
        "resting": "lock-step, simulators whose episode has ended rest",
        "stepping": "lock-step, they are stepped on until the round is over",
    }
    rows = [
        [title, f"{rates[mode]:.0f}", f"{rates[mode] / rates['stepping']:.2f} x"]
        for mode, title in titles.items()
    ]
    header = [f"{found['slots']} slots, episodes of 20 to 80 steps", "episodes per minute", ""]
    return ["`benchmarks/scheduler.py`:", *markdown(header, rows)]


def main() -> int:
    """Write the section and copy the plots."""
    parser = argparse.ArgumentParser(description="Write measured numbers into docs/engine.md")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "outputs" / "benchmarks")
    folder = parser.parse_args().folder
    try:
        proof, parts, whole, order = (
            read(folder, name) for name in ("exactness", "engine", "rollout", "scheduler")
        )
    except FileNotFoundError as error:
        parser.error(str(error))
    longer = folder / "memory.json"  # of engine.py --memory, with all restores and evictions
    if longer.is_file():
        parts |= read(folder, "memory")
    lines = [
        *machine(whole),
        *exactness(proof),
        *rollout(whole),
        *engine(parts),
        *scheduler(order),
        "`benchmarks/slots.py`:",
        "",
        "![control steps per second over slots](images/engine_slots.png)",
    ]
    text = DOCUMENT.read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
    section = "\n".join(lines).replace("\n\n\n", "\n\n")
    write_atomically(DOCUMENT, f"{text}\n\n{HEADING}\n\n{section}\n")
    for plot in PLOTS:
        shutil.copyfile(folder / plot, IMAGES / plot)
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
