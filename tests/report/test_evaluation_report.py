"""JSON, CSV, Markdown and a page hold the same numbers, and nothing that is not in the records."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest

from pi0.ript.report.evaluation_report import (
    ChangeRow,
    Comparison,
    EvaluationReport,
    RateRow,
    episodes_csv,
    evaluation_page,
    markdown,
    results_json,
    text_lines,
    write_report,
)
from pi0.ript.report.intervals import paired_change, success_rate

STOVE = "libero_goal/7 turn on <b>the</b> stove"
SETTINGS = {
    "policy": "runs/a", "weights": "12ab", "initial_states": "held_out",
    "fixtures": "per_episode", "seed": 42,
    "policy_card": {"protocol": "openpi"}, "denoise_steps": 4,
}  # fmt: skip


def _episode(index, outcome, **rest):
    return {
        "suite": "libero_goal", "task_id": 7, "task": "turn on <b>the</b> stove", "state_index": index,
        "seed": 5, "outcome": outcome, "num_steps": 12, "num_decisions": 2, "error": "",
        "seconds": 1.25, **rest,
    }  # fmt: skip


@pytest.fixture
def report():
    """3 of 4 solved, one crashed; the other policy solved 1 of those 4: gained 2, lost 0."""
    other, this = (True, False, False, False), (True, True, True, False)
    change = ChangeRow(
        name=STOVE,
        other=success_rate(other),
        this=success_rate(this),
        change=paired_change(other, this),
    )
    episodes = [_episode(30 + n, "success" if done else "failure") for n, done in enumerate(this)]
    return EvaluationReport(
        settings=SETTINGS,
        rows=[RateRow(name=STOVE, rate=success_rate(this), num_crashed=1)],
        episodes=[*episodes, _episode(34, "crashed", error="worker 3 ended, twice")],
        comparison=Comparison(other="builtin", rows=[change], num_unpaired=1, differences=[]),
    )


def test_json_holds_settings_rates_comparison_and_every_episode(report):
    content = json.loads(results_json(report))

    assert content["settings"] == SETTINGS
    assert content["success"][STOVE]["num_successes"] == 3
    assert content["num_crashed"] == 1
    assert content["comparison"]["rows"][0]["change"]["num_gained"] == 2
    assert content["episodes"] == list(report.episodes)


def test_csv_has_one_line_per_episode(report):
    lines = list(csv.DictReader(io.StringIO(episodes_csv(report.episodes))))

    assert [line["state_index"] for line in lines] == ["30", "31", "32", "33", "34"]
    assert (lines[4]["outcome"], lines[4]["error"]) == ("crashed", "worker 3 ended, twice")


def test_markdown_shows_interval_discordant_pairs_and_crashes(report):
    text = markdown(report)

    # Wilson for 3 of 4: [0.301, 0.954]. McNemar for 2 against 0: 2 * 0.5**2 = 0.5.
    assert f"| {STOVE} | 75.0% | [30.1%, 95.4%] | 4 | 1 |" in text
    assert re.search(
        r"\| 25\.0% \| 75\.0% \| \+50\.0 \| \[.*\] \| 2 \| 0 \| 0\.5 \| - \| 4 \|", text
    )
    assert "1 of 5 episodes crashed" in text
    assert "against builtin" in text


def test_terminal_lines_show_rate_and_change(report):
    rate, against, change = text_lines(report)

    assert "75.0% (3/4, 95 % [30.1%, 95.4%])" in rate
    assert "1 episodes without a partner left out" in against
    assert "gained 2, lost 0, p = 0.5" in change


class Tables(HTMLParser):
    """The words of every table, row by row, and every address that a browser would load."""

    def __init__(self):
        super().__init__()
        self.rows, self.addresses, self._is_open = [], [], False

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ("src", "href")]
        if tag == "tr":
            self.rows.append([])
            self._is_open = True

    def handle_endtag(self, tag):
        self._is_open = self._is_open and tag != "tr"

    def handle_data(self, data):
        if self._is_open and data.strip():
            self.rows[-1].append(data.strip())


def test_page_shows_the_same_numbers_and_loads_nothing(report):
    tables = Tables()
    tables.feed(evaluation_page(report))

    assert [STOVE, "75.0%", "[30.1%, 95.4%]", "4", "1"] in tables.rows
    assert any(row[:6] == [STOVE, "25.0%", "75.0%", "+50.0", row[4], "2"] for row in tables.rows)
    assert sum("crashed: worker 3 ended, twice" in row for row in tables.rows) == 1
    assert tables.addresses == []


def test_page_of_nothing_completed_has_no_rate(report):
    empty = EvaluationReport(
        settings=SETTINGS,
        rows=[RateRow(name=STOVE, rate=None, num_crashed=1)],
        episodes=report.episodes[4:],
        comparison=None,
    )

    assert "no episode could be completed" in evaluation_page(empty)
    assert "| - | - | 0 | 1 |" in markdown(empty)
    assert text_lines(empty) == [f"{STOVE}  no result"]


def test_every_form_is_written(report, tmp_path):
    write_report(tmp_path, report, evaluation_page)

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "results.csv", "results.html", "results.json", "results.md",
    ]  # fmt: skip
