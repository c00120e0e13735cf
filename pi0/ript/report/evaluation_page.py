"""An evaluation as one page that works from disk: tables, intervals drawn to scale, every episode."""

import json

from jinja2 import Environment, PackageLoader, StrictUndefined

from pi0.ript.report.evaluation_report import EvaluationReport, comparison_line, crash_line


def evaluation_page(report: EvaluationReport) -> str:
    """Return the page; it loads nothing from anywhere."""
    environment = Environment(
        loader=PackageLoader("pi0.ript.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["percent"] = lambda share: f"{share:.1%}"
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}"
    tasks = [f"{e['suite']}/{e['task_id']} {e['task']}" for e in report.episodes]
    return environment.get_template("evaluation.html").render(
        report=report,
        tasks=list(dict.fromkeys(tasks)),
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False),
        crash_line=crash_line(report),
        comparison_line=comparison_line(report.comparison) if report.comparison else "",
    )
