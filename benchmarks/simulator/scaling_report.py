"""The measurements of ``scaling.py`` as a plot and as a section of docs/results.md."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from benchmarks.parts.document import ROOT, markdown, write_section
from benchmarks.parts.measure import describe_machine

DOCUMENT = ROOT / "docs" / "results.md"
IMAGE = ROOT / "docs" / "images" / "scaling.png"
SECTION = "scaling"
SHOWN_HOSTS = (1, 4, 16, 64)
SHOWN_SLOTS = (32, 512, 4096)


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw what was measured beside what was predicted, and the predictions for many hosts."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8))
    for number, ((pool, workers), rows) in enumerate(_by(found["validation"], "pool", "workers")):
        slots = [row["slots"] for row in rows]
        color, name = f"C{number}", f"{pool}, {workers} worker{'s' if workers > 1 else ''}"
        left.plot(slots, [row["predicted"] for row in rows], "-", color=color, label=name)
        left.plot(slots, [row["measured"] for row in rows], "o", color=color)
    left.set(
        xlabel="slots", ylabel="episodes per minute", title="here: lines predicted, dots measured"
    )
    left.set_ylim(bottom=0)
    shown = [
        row for row in found["fleet"] if row["hosts"] in SHOWN_HOSTS and row["learners"] in (1, 8)
    ]
    for (hosts, learners), rows in _by(shown, "hosts", "learners"):
        style = "-" if learners == 8 else "--"
        rates = [row["episodes_per_minute"] for row in rows]
        color = f"C{SHOWN_HOSTS.index(hosts)}"
        right.plot([row["slots"] for row in rows], rates, style, color=color,
                   label=f"{hosts} hosts, {learners} learners")  # fmt: skip
    right.set(xlabel="slots", title="predicted", yscale="log")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=6, loc="upper left")
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)


def publish(found: dict[str, Any]) -> None:
    """Write the measurements between the markers of docs/results.md."""
    write_section(DOCUMENT, SECTION, section(found))
    draw(found, IMAGE)
    print(f"wrote {DOCUMENT.relative_to(ROOT)}")


def section(found: dict[str, Any]) -> list[str]:
    """Return the Markdown lines of the measurements."""
    machine = describe_machine()
    costs = found["costs"]
    inputs = [
        ["control step", f"{1e3 * costs['step_s']:.2f} ms"],
        ["image", f"{1e3 * costs['render_s']:.1f} ms"],
        ["restore of a settled state", f"{1e3 * costs['restore_s']:.2f} ms"],
        ["what a request takes besides", f"{1e3 * costs['request_s']:.2f} ms"],
        [f"policy call of {found['batch_size']} samples", f"{1e3 * costs['inference_s']:.1f} ms"],
        ["scheduler, per reply", f"{1e3 * costs['reply_s']:.2f} ms"],
        ["lost while all cores are busy", f"{100 * costs['slowdown']:.0f} %"],
        ["spread of durations", f"{100 * costs['spread']:.0f} %"],
    ]
    checked = [
        [f"{r['pool']}, {r['workers']}", str(r["slots"]), f"{r['measured']:.0f}",
         f"{r['predicted']:.0f}", f"{100 * r['error']:+.0f} %"]
        for r in found["validation"]
    ]  # fmt: skip
    fleet = [
        [str(r["hosts"]), str(r["learners"]), str(r["slots"]), f"{r['episodes_per_minute']:.0f}",
         r["bottleneck"]]
        for r in found["fleet"]
        if r["hosts"] in SHOWN_HOSTS and r["slots"] in SHOWN_SLOTS and r["learners"] in (1, 8)
    ]  # fmt: skip
    return [
        f"{machine['cpu']}, {machine['cores']} cores; episodes of {found['max_steps']} control steps, one "
        "96 px camera, `fast`; the embedded policy. Measured by `python benchmarks/scaling.py --publish`.",
        *markdown(["cost, measured on its own", ""], inputs),
        *markdown(
            ["pool, workers", "slots", "measured per minute", "predicted", "difference"], checked
        ),
        *markdown(
            ["hosts", "learners", "slots", "predicted episodes per minute", "bottleneck"], fleet
        ),
        "![measured and predicted episodes per minute](images/scaling.png)",
    ]


def _by(
    rows: list[dict[str, Any]], *names: str
) -> list[tuple[tuple[Any, ...], list[dict[str, Any]]]]:
    """Return rows by the values of some columns, in order of appearance."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(groups.items())
