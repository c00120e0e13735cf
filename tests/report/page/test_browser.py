"""The page in a real browser: it opens from disk, shows what was logged, and its filters work."""

import json
import statistics

import pytest

from pi0.ript.report.jsonl import read_metrics
from pi0.ript.report.page.render import write_report
from tests.report.page.conftest import Tab
from tests.report.page.runs import Made, make_run

MEGABYTE = 10**6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "quick", Made(num_steps=12, tasks=(7, 3)))


@pytest.fixture(scope="module")
def page_file(run):
    return write_report([run])


@pytest.fixture(scope="module")
def desk(page_file, browser):
    """Return an opened page for the tests that change nothing."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    tab = Tab(page)
    tab.open(page_file.resolve().as_uri())
    yield tab
    page.close()


@pytest.fixture(scope="module")
def three_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    return [make_run(folder / f"seed_{seed}", Made(num_steps=8, seed=seed)) for seed in (1, 2, 3)]


def all_charts(tab):
    """Bring every chart into view once."""
    for figure in tab.page.locator("figure:visible").all():
        figure.scroll_into_view_if_needed()
        tab.wait_until_drawn()


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_page_opens_from_disk_without_a_complaint(page_file, open_tab, width):
    tab = open_tab(page_file, width=width)
    all_charts(tab)
    assert tab.complaints == []
    assert tab.page.locator("figure:visible .main-svg").count() >= 12


def test_page_sends_no_request(page_file, browser):
    page = browser.new_page()
    addresses = []
    page.on("request", lambda request: addresses.append(request.url))
    page.goto(page_file.resolve().as_uri())
    page.wait_for_selector("html[data-ready]")
    page.close()
    assert [url[:40] for url in addresses if not url.startswith(("data:", "blob:"))] == [
        page_file.resolve().as_uri()[:40]
    ]


@pytest.mark.parametrize(
    ("chart", "column"),
    [
        ("chart-success", "rollout/success_rate"),
        ("chart-groups", "rollout/groups_accepted"),
        ("chart-length", "rollout/episode_length_steps"),
        ("chart-kl", "update/kl"),
        ("chart-time", "time/collect_s"),
        ("chart-busy", "speed/worker_1_busy_share"),
    ],
)
def test_chart_shows_exactly_what_was_logged(run, desk, chart, column):
    desk.show(f"#{chart}")
    logged = [line[column] for line in read_metrics(run / "metrics.jsonl")]
    assert desk.drawn(chart, column) == logged


def test_held_out_points_are_the_rates_of_the_evaluations(run, desk):
    rates = []
    for step in (0, 12):
        episodes = json.loads((run / "evaluations" / f"step_{step}.json").read_text())["episodes"]
        rates.append(statistics.mean(e["outcome"] == "success" for e in episodes))
    assert desk.drawn("chart-success", "held-out") == pytest.approx(rates)


def test_task_filter_shows_one_task_only(run, page_file, open_tab):
    tab = open_tab(page_file)
    assert tab.page.locator(".matrix:visible").count() == 2
    tab.page.select_option("#task", "libero_goal/7 turn on the stove")
    tab.wait_until_drawn()
    assert tab.page.locator(".matrix:visible h4").all_inner_texts() == [
        "libero_goal/7 turn on the stove"
    ]
    records = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    first = [
        r for r in records if r["step"] == 1 and r["task_id"] == 7 and r["outcome"] != "crashed"
    ]
    share = sum(r["outcome"] == "success" for r in first) / len(first)
    assert tab.drawn("chart-success", "rollout/success_rate")[0] == pytest.approx(share)


def test_every_task_has_a_panel_with_its_rollouts_and_held_out_rates(run, desk):
    desk.show("#chart-tasks")
    records = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    last = json.loads((run / "evaluations" / "step_12.json").read_text())["episodes"]
    for task_id, name in ((7, "turn on the stove"), (3, "put <b>the bowl</b> & the plate")):
        label = f"libero_goal/{task_id} {name}"
        rollouts = [r for r in records if r["task_id"] == task_id and r["outcome"] != "crashed"]
        steps = sorted({r["step"] for r in rollouts})
        shares = [
            statistics.mean(r["outcome"] == "success" for r in rollouts if r["step"] == step)
            for step in steps
        ]
        assert desk.drawn("chart-tasks", label) == pytest.approx(shares)
        rate = statistics.mean(e["outcome"] == "success" for e in last if e["task_id"] == task_id)
        assert desk.drawn("chart-tasks", f"held-out {label}")[-1] == pytest.approx(rate)


def test_one_task_needs_no_panels(page_file, open_tab):
    tab = open_tab(page_file)
    assert tab.page.locator("#chart-tasks:visible").count() == 1
    tab.page.select_option("#task", "libero_goal/7 turn on the stove")
    assert tab.page.locator("#chart-tasks:visible").count() == 0


def test_hardest_initial_states_come_first(run, page_file, open_tab):
    tab = open_tab(page_file)
    tab.page.select_option("#grid-order", "hardest")
    tab.show("#grid")
    rows = tab.page.evaluate("document.getElementById('grid').data[0].z")
    counts = [[cell for cell in row if cell is not None and cell >= 0] for row in reversed(rows)]
    shares = [statistics.mean(row) for row in counts]
    assert len(shares) > 3
    assert shares == sorted(shares)


def test_smoothing_draws_moving_means(run, page_file, open_tab):
    tab = open_tab(page_file)
    tab.page.select_option("#smooth", "5")
    tab.wait_until_drawn()
    logged = [line["rollout/success_rate"] for line in read_metrics(run / "metrics.jsonl")]
    means = [statistics.mean(logged[max(0, i - 4) : i + 1]) for i in range(len(logged))]
    assert tab.drawn("chart-success", "rollout/success_rate") == pytest.approx(means)


def test_grid_shows_every_rollout(run, desk):
    desk.show("#grid")
    cells = desk.page.evaluate("Array.from(document.getElementById('grid').data[0].z).flat()")
    outcomes = [
        json.loads(line)["outcome"] for line in (run / "episodes.jsonl").read_text().splitlines()
    ]
    for code, outcome in ((1, "success"), (0, "failure"), (-0.5, "crashed")):
        assert cells.count(code) == outcomes.count(outcome)


def test_videos_before_and_after_play(desk):
    desk.show("#videos")
    assert desk.page.locator(".pair").count() == 2
    videos = desk.page.evaluate(
        "Promise.all([...document.querySelectorAll('video')].map(async v => {"
        " if (v.readyState < 1) await new Promise(r => v.addEventListener('loadedmetadata', r));"
        " return [v.videoWidth, v.duration]; }))"
    )
    # 9 observations at 10 a second; 96 pixels are enlarged three times
    assert videos == [[288, pytest.approx(0.9, abs=0.05)]] * 4
    frames = desk.page.evaluate(
        "[...document.querySelectorAll('.shot img')].map(i => i.naturalWidth)"
    )
    assert frames == [6 * 120] * 4


def test_texts_of_tasks_are_shown_not_run(desk):
    assert "put <b>the bowl</b> & the plate" in desk.page.locator("#headline").inner_text()
    assert desk.page.locator("#headline td b").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_follows_the_system_and_the_switch(page_file, open_tab, scheme):
    tab = open_tab(page_file, scheme=scheme)
    ground = "getComputedStyle(document.body).backgroundColor"
    colors = {"light": "rgb(251, 251, 250)", "dark": "rgb(17, 18, 20)"}
    assert tab.page.evaluate(ground) == colors[scheme]
    tab.page.click("#theme")
    other = "dark" if scheme == "light" else "light"
    assert tab.page.evaluate(ground) == colors[other]
    tab.wait_until_drawn()
    tick = "getComputedStyle(document.querySelector('#chart-success .xtick text')).fill"
    assert (
        tab.page.evaluate(tick)
        == {"light": "rgb(96, 100, 108)", "dark": "rgb(161, 166, 174)"}[other]
    )


def test_phone_has_nothing_to_scroll_sideways(page_file, open_tab):
    tab = open_tab(page_file, width=390)
    all_charts(tab)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.alone
def test_first_paint_comes_within_a_second(page_file, browser):
    def paint():
        page = browser.new_page()
        page.goto(page_file.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        paints = "performance.getEntriesByName('first-contentful-paint')"
        milliseconds = page.evaluate(f"{paints}[0].startTime")
        page.close()
        return milliseconds

    # Other programs may hold the processor, so there are three tries.
    assert any(paint() < 1000 for _ in range(3))


def test_three_runs_are_overlaid_and_can_be_switched_off(three_runs, tmp_path, open_tab):
    path = write_report(three_runs, tmp_path / "three.html")
    assert path.stat().st_size < 15 * MEGABYTE
    tab = open_tab(path)
    tab.show("#chart-kl")
    for run in three_runs:
        logged = [line["update/kl"] for line in read_metrics(run / "metrics.jsonl")]
        assert tab.drawn("chart-kl", "update/kl", run.name) == logged
    tab.page.uncheck("input[name=run][value='1']")
    tab.wait_until_drawn()
    names = tab.page.evaluate("document.getElementById('chart-kl').data.map(t => t.meta.run)")
    assert names == ["seed_1", "seed_3"]
    assert tab.complaints == []
