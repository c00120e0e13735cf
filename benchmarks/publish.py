"""Write measured numbers into docs/engine.md: ``python benchmarks/publish.py [FOLDER]``.

Every program of ``make bench`` has a section there, which is replaced if the folder holds what the program found; each names
the machine and the versions that it was measured with. Plots are copied.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.parts.document import ROOT, markdown, write_section

DOCUMENT = ROOT / "docs" / "engine.md"
IMAGES = ROOT / "docs" / "images"
PLOTS = ("engine_rollout.png", "engine_slots.png")
SETTINGS = {
    "exact": "this engine, two 256 px cameras, exact",
    "fast": "this engine, two 256 px cameras, fast",
    "quickstart": "this engine, one 96 px camera, fast",
}


def machine(found: dict[str, Any], name: str) -> list[str]:
    """Return which program measured, and where."""
    m = found["machine"]
    return [
        f"`benchmarks/{name}.py{' --quick' if found['is_quick'] else ''}` on {m['cpu']}, {m['cores']} cores, "
        f"{m['memory_gib']:.0f} GiB, no GPU; MuJoCo {m['mujoco']}, robosuite {m['robosuite']}:",
        "",
    ]


def exactness(found: dict[str, Any]) -> list[str]:
    """Return how much was compared and what differed."""
    tasks = found["tasks"]
    steps, observations = (
        sum(task[key] for task in tasks) for key in ("num_steps", "num_observations")
    )
    return [
        f"{len(tasks)} tasks, {steps} control steps, {observations} observations of two cameras, "
        f"differences: {found['num_differences']}."
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
    return markdown(header, rows)


def slots(found: dict[str, Any]) -> list[str]:
    """Return the plot."""
    del found
    return ["![control steps per second over slots](images/engine_slots.png)"]


PROGRAMS: Mapping[str, Callable[[dict[str, Any]], list[str]]] = {
    "rollout": rollout,
    "exactness": exactness,
    "engine": engine,
    "scheduler": scheduler,
    "slots": slots,
}


def publish(folder: Path, document: Path, images: Path) -> list[str]:
    """Replace the sections of programs that left something in ``folder``, copy their plots, return their names."""
    found = {
        name: json.loads(path.read_text())
        for name in PROGRAMS
        if (path := folder / f"{name}.json").is_file()
    }
    longer = folder / "memory.json"  # of engine.py --memory, with all restores and evictions
    if "engine" in found and longer.is_file():
        found["engine"] |= json.loads(longer.read_text())
    for name, measured in found.items():
        write_section(document, name, [*machine(measured, name), *PROGRAMS[name](measured)])
    for plot in PLOTS:
        if (folder / plot).is_file():
            shutil.copyfile(folder / plot, images / plot)
    return list(found)


def main() -> int:
    """Write what the folder has."""
    parser = argparse.ArgumentParser(description="Write measured numbers into docs/engine.md")
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "outputs" / "benchmarks")
    folder = parser.parse_args().folder
    names = publish(folder, DOCUMENT, IMAGES)
    if not names:
        parser.error(f"{folder} holds nothing that was measured; run make bench first")
    print(f"wrote {', '.join(names)} into {DOCUMENT.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
