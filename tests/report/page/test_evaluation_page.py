"""The page of an evaluation in a real browser: no complaint, and the filters leave what they name."""

import pytest

from pi0.ript.report.evaluation_report import EvaluationReport, RateRow, evaluation_page
from pi0.ript.report.intervals import success_rate

SETTINGS = {
    "policy": "runs/a", "weights": "12ab", "initial_states": "held_out",
    "fixtures": "per_episode", "seed": 42,
    "policy_card": {"protocol": "openpi"}, "denoise_steps": 4,
}  # fmt: skip


def _episode(task_id, outcome):
    return {
        "suite": "libero_goal", "task_id": task_id, "task": "open it", "state_index": 30, "seed": 5,
        "outcome": outcome, "num_steps": 12, "num_decisions": 2, "error": "", "seconds": 1.0,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1280])
def test_filters_work_and_the_browser_has_nothing_to_complain_of(browser, tmp_path, width):
    row = RateRow(
        name="libero_goal/1 open it", rate=success_rate((True, False, True)), num_crashed=0
    )
    outcomes = [(1, "success"), (1, "failure"), (1, "success"), (2, "success")]
    report = EvaluationReport(
        settings=SETTINGS, rows=[row], episodes=[_episode(*each) for each in outcomes],
        comparison=None,
    )  # fmt: skip
    (tmp_path / "results.html").write_text(evaluation_page(report))
    page = browser.new_page(viewport={"width": width, "height": 800})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))

    page.goto((tmp_path / "results.html").as_uri())
    page.select_option("#outcome", "success")
    assert page.inner_text("#shown") == "3 of 4 episodes"
    page.select_option("#task", "libero_goal/2 open it")

    assert page.inner_text("#shown") == "1 of 4 episodes"
    assert page.locator("#episodes tr[data-task]:visible").count() == 1
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
