"""Run directories -> one self-contained HTML page."""

import base64
import gzip
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from pi0.files import write_atomically
from pi0.ript.report.page.charts import SECTIONS
from pi0.ript.report.page.figures import RunMetrics
from pi0.ript.report.page.headline import (
    Result,
    Setting,
    asked,
    card_lines,
    chosen_settings,
    plain,
    protocol_words,
    results,
    run_facts,
    success_by_task,
)
from pi0.ript.report.page.run_files import Evaluation, RunFiles, read_run
from pi0.ript.report.page.videos import VideoPair, video_pairs

logger = logging.getLogger(__name__)

REPORT_NAME = "report.html"
# Of all runs together; base64 adds a third to the bytes.
MAX_PAIRS = 6
MAX_VIDEO_BYTES = 5_000_000
MOST_DAMAGE = 10  # lines of a run that are named on the page


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What the template writes about a run; ``data`` holds the numbers that scripts draw."""

    index: int
    name: str
    files: RunFiles
    results: list[Result]
    protocol: str
    settings: list[Setting]
    facts: dict[str, object]
    card: list[tuple[str, str]]
    videos: list[VideoPair]
    damage: list[str]
    num_steps: int
    num_episodes: int
    minutes: float
    data: dict[str, Any]


def write_report(folders: Sequence[Path], output: Path | None = None) -> Path:
    """Write the page of one or several runs; by default into the directory of the first.

    Raises:
        ValueError: A folder is no run directory.
        OSError: The page cannot be written.
    """
    path = output or folders[0] / REPORT_NAME
    views = _views(folders)
    for line in [line for view in views for line in view.damage]:
        logger.warning("left out of the report: %s", line)
    write_atomically(path, _page(views, None))
    return path


def render_page(folders: Sequence[Path], cursor: dict[str, Any] | None = None) -> str:
    """Return the page.

    Args:
        folders: Run directories, at least one.
        cursor: How far the runs have been read, which a live page sends to its server; None for a page
            that stands alone.
    """
    return _page(_views(folders), cursor)


def _views(folders: Sequence[Path]) -> list[RunView]:
    return [_view(i, folder, len(folders)) for i, folder in enumerate(folders)]


def _page(views: list[RunView], cursor: dict[str, Any] | None) -> str:
    data = {
        "live": cursor is not None,
        "cursor": cursor,
        "charts": [asdict(chart) for section in SECTIONS for chart in section.charts],
        "runs": [view.data for view in views],
    }
    template = _environment().get_template("report.html")
    return template.render(views=views, sections=SECTIONS, plotly=packed_plotly(), data=data)


@cache
def packed_plotly() -> str:
    """Return plotly.js, compressed with gzip and written as base64; the page unpacks it."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pi0.ript.report.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["MOST_DAMAGE"] = MOST_DAMAGE
    environment.filters |= {
        "plain": plain,
        "percent": lambda share: f"{share:.0%}",
        "points": lambda share: f"{100 * share:.0f}",
        "signed": lambda share: f"{100 * share:+.0f}",
    }
    return environment


def _view(index: int, folder: Path, num_runs: int) -> RunView:
    run, metrics = read_run(folder), RunMetrics(folder)
    name = folder.resolve().name
    return RunView(
        index=index,
        name=name,
        files=run,
        results=results(run.evaluations) if run.has_base else [],
        protocol=protocol_words(run.config),
        settings=asked(run.request) if run.request else chosen_settings(run.config),
        facts=run_facts(run),
        card=card_lines(run.evaluations[0].policy) if run.evaluations else [],
        videos=video_pairs(run, -(-MAX_PAIRS // num_runs), MAX_VIDEO_BYTES // num_runs)
        if run.has_base
        else [],
        damage=[*run.damage, *metrics.damage],
        num_steps=metrics.num_steps,
        num_episodes=int(metrics.last("train/num_episodes") or 0),
        minutes=float(metrics.last("minutes") or 0),
        data={
            "name": name,
            "numSteps": metrics.num_steps,
            "hasBase": run.has_base,
            "columns": metrics.columns(),
            "evaluations": [_evaluation_data(evaluation) for evaluation in run.evaluations],
            **metrics.rollouts(),
        },
    )


def _evaluation_data(evaluation: Evaluation) -> dict[str, Any]:
    rates = success_by_task(evaluation.episodes)
    return {
        "step": evaluation.step,
        "rates": {task: asdict(rate) for task, rate in rates.items()},
        "episodes": [
            {
                "task": episode.task_label,
                "state": episode.state_index,
                "seed": str(episode.seed),  # JavaScript has no whole numbers of 64 bits
                "outcome": episode.outcome,
                "steps": episode.num_steps,
            }
            for episode in evaluation.episodes
        ],
    }
