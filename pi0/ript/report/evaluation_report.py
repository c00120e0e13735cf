"""An evaluation as one page that works from disk: tables, intervals drawn to scale, every episode."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pi0.files import write_atomically
from pi0.ript.report.intervals import PairedChange, SuccessRate

RESULTS_NAME = "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class RateRow:
    """Success of a task, a suite or everything.

    Attributes:
        name: E.g. ``libero_goal/7 turn on the stove``, ``libero_goal`` or ``all``.
        rate: None if no episode could be completed.
        num_crashed: Episodes left out because the simulator did not last to their end.
    """

    name: str
    rate: SuccessRate | None
    num_crashed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """Two policies on the same episodes of a task, a suite or everything.

    Attributes:
        name: As in ``RateRow``.
        other: Success of the other policy.
        this: Success of this one.
        change: What was gained and lost.
        holm_p: The test's p-value adjusted for the number of tasks (Holm); None for a single task, and for
            suites and everything, which sum the tasks up.
    """

    name: str
    other: SuccessRate
    this: SuccessRate
    change: PairedChange
    holm_p: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """This policy against another one.

    Attributes:
        other: Where the other's episodes come from.
        rows: Per task, per suite with several tasks, and of all suites.
        num_unpaired: Episodes of this policy that the other did not complete, or the reverse.
        differences: Settings besides the policy that differ, one phrase each.
    """

    other: str
    rows: Sequence[ChangeRow]
    num_unpaired: int
    differences: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationReport:
    """All that is known of a finished evaluation.

    Attributes:
        settings: What outcomes may depend on: policy, protocol, episodes, seeds, versions.
        rows: Success per task, per suite with several tasks, and of all suites.
        episodes: One JSON-ready record each, in the order of the request.
        comparison: Against another policy, if one was given.
    """

    settings: Mapping[str, Any]
    rows: Sequence[RateRow]
    episodes: Sequence[Mapping[str, str | int | float]]
    comparison: Comparison | None

    @property
    def num_crashed(self) -> int:
        """Return how many episodes could not be completed."""
        return sum(episode["outcome"] == "crashed" for episode in self.episodes)


def write_report(
    folder: Path, report: EvaluationReport, page: Callable[[EvaluationReport], str]
) -> None:
    """Write ``results.json``, ``.csv``, ``.md`` and ``.html``; each appears whole or not at all."""
    for suffix, content in (
        ("json", results_json(report)),
        ("csv", episodes_csv(report.episodes)),
        ("md", markdown(report)),
        ("html", page(report)),
    ):
        write_atomically(folder / f"{RESULTS_NAME}.{suffix}", content)


def results_json(report: EvaluationReport) -> str:
    """Return everything as JSON."""
    content = {
        "settings": report.settings,
        "num_crashed": report.num_crashed,
        "success": {
            row.name: None if row.rate is None else asdict(row.rate) for row in report.rows
        },
        "comparison": None if report.comparison is None else asdict(report.comparison),
        "episodes": report.episodes,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def episodes_csv(episodes: Sequence[Mapping[str, str | int | float]]) -> str:
    """Return one line per episode under a line of names."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(episodes[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(episodes)
    return text.getvalue()


def markdown(report: EvaluationReport) -> str:
    """Return the tables as Markdown, with what they were measured on."""
    lines = [_subject(report), "", *_rate_table(report.rows)]
    if report.num_crashed:
        lines += ["", crash_line(report)]
    if report.comparison is not None:
        lines += ["", comparison_line(report.comparison), "", *_change_table(report.comparison)]
    return "\n".join(lines) + "\n"


def text_lines(report: EvaluationReport) -> list[str]:
    """Return one line per row for a terminal."""
    width = max(len(row.name) for row in report.rows)
    lines = [f"{row.name:<{width}}  {row.rate or 'no result'}" for row in report.rows]
    if report.comparison is not None:
        lines += [comparison_line(report.comparison)]
        lines += [
            f"{row.name:<{width}}  {row.change}{_holm(row)}" for row in report.comparison.rows
        ]
    return lines


def _holm(row: ChangeRow) -> str:
    return "" if row.holm_p is None else f", Holm p = {row.holm_p:.2g}"


def crash_line(report: EvaluationReport) -> str:
    """Return what happened to episodes that are in no rate."""
    return (
        f"{report.num_crashed} of {len(report.episodes)} episodes crashed: they are errors of the "
        "simulator and in no rate. The same command tries them again."
    )


def comparison_line(comparison: Comparison) -> str:
    """Return what the other policy is and how the two are compared."""
    parts = [f"against {comparison.other}, the same episodes, pair by pair"]
    if comparison.num_unpaired:
        parts.append(f"{comparison.num_unpaired} episodes without a partner left out")
    if comparison.differences:
        parts.append(f"other settings: {', '.join(comparison.differences)}")
    return "; ".join(parts)


def _subject(report: EvaluationReport) -> str:
    settings = report.settings
    return (
        f"Policy `{settings['policy']}`, weights `{settings['weights']}`, {settings['initial_states']} "
        f"initial states, fixtures {settings['fixtures']}, seed {settings['seed']}, protocol {settings['policy_card']['protocol']}, "
        f"{settings['denoise_steps']} denoise steps; 95 % Wilson intervals, wider where episodes share initial states."
    )


def _rate_table(rows: Sequence[RateRow]) -> list[str]:
    lines = ["| task | success | 95 % interval | n | crashed |", "|---|---|---|---|---|"]
    for row in rows:
        shown = ("-", "-", 0) if row.rate is None else (*_percent(row.rate), row.rate.n)
        lines.append("| {} | {} | {} | {} | {} |".format(row.name, *shown, row.num_crashed))
    return lines


def _percent(rate: SuccessRate) -> tuple[str, str]:
    return f"{rate.rate:.1%}", f"[{rate.low:.1%}, {rate.high:.1%}]"


def _change_table(comparison: Comparison) -> list[str]:
    lines = [
        "| task | other | this | change, points | 95 % interval | gained | lost | McNemar p | Holm p | n |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in comparison.rows:
        change = row.change
        points, low, high = (100 * x for x in (change.difference, change.low, change.high))
        lines.append(
            f"| {row.name} | {row.other.rate:.1%} | {row.this.rate:.1%} | {points:+.1f} | "
            f"[{low:+.1f}, {high:+.1f}] | {change.num_gained} | {change.num_lost} | "
            f"{change.p_value:.2g} | {holm_text(row)} | {row.this.n} |"
        )
    return lines


def holm_text(row: ChangeRow) -> str:
    """Return the adjusted p-value as tables show it."""
    return "-" if row.holm_p is None else f"{row.holm_p:.2g}"


def evaluation_page(report: EvaluationReport) -> str:
    """Return the page; it loads nothing from anywhere."""
    environment = Environment(
        loader=PackageLoader("pi0.ript.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    environment.filters["holm"] = holm_text
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}"
    tasks = [f"{e['suite']}/{e['task_id']} {e['task']}" for e in report.episodes]
    return environment.get_template("evaluation.html").render(
        report=report,
        tasks=list(dict.fromkeys(tasks)),
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False),
        crash_line=crash_line(report),
        comparison_line=comparison_line(report.comparison) if report.comparison else "",
    )
