"""The page holds what was run: settings that somebody chose, the card, versions, videos within limits."""

import json
import re

import numpy as np
import pytest

from pi0.ript.config.schema import AlgoConfig, EvaluationConfig, TaskConfig, TrainConfig
from pi0.ript.report.page.headline import Setting, chosen_settings, plain, protocol_words
from pi0.ript.report.page.render import render_page, write_report
from pi0.ript.report.page.run_files import read_run
from pi0.ript.report.page.videos import contact_sheet, video_pairs
from tests.report.page.runs import Made, make_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "quick", Made(num_recorded=3))


def test_settings_are_those_that_differ_from_the_defaults():
    config = TrainConfig(exp_name="mine", algo=AlgoConfig(rloo_batch_size=3))
    default = AlgoConfig().rloo_batch_size
    assert chosen_settings(config) == [
        Setting(key="exp_name", value="mine", default="ript"),
        Setting(key="algo.rloo_batch_size", value="3", default=str(default)),
    ]


@pytest.mark.parametrize(
    ("task", "evaluated_at", "words"),
    [
        (TaskConfig(), None, "fixtures drawn per episode, the suite's step limit"),
        (
            TaskConfig(max_episode_length=100),
            "suite",
            "fixtures drawn per episode, the suite's step limit",
        ),
        (
            TaskConfig(fixtures="fixed", max_episode_length=100),
            None,
            "fixtures fixed, at most 100 control steps",
        ),
    ],
)
def test_fixtures_and_limit_stand_beside_the_rates(task, evaluated_at, words):
    evaluation = EvaluationConfig(max_episode_length=evaluated_at)

    assert protocol_words(TrainConfig(task=task, evaluation=evaluation)) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [(True, "true"), (None, "null"), (3176903, "3,176,903"), (["a", 2], "a, 2"), ([], "none")],
)
def test_values_read_as_in_a_configuration(value, text):
    assert plain(value) == text


def test_report_lands_in_the_run_directory_or_where_one_says(run, tmp_path):
    assert write_report([run]) == run / "report.html"
    assert write_report([run], tmp_path / "page.html").stat().st_size > 10**6


def test_page_shows_versions_card_and_settings(run):
    page = render_page([run])
    protocol = "fixtures drawn per episode"
    for text in ("3,176,903", "mujoco", "evaluation.rollouts_per_task", "started on cpu", protocol):
        assert text in page


def test_name_of_a_run_cannot_become_markup(tmp_path):
    folder = make_run(tmp_path / "<img src=x onerror=alert(1)>")
    page = render_page([folder])
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_run_without_videos_or_evaluations_has_a_page(tmp_path):
    folder = make_run(tmp_path / "bare", Made(num_recorded=0, final_evaluation=False))
    (folder / "evaluations/step_0.json").unlink()
    page = render_page([folder])
    assert "No held-out evaluation yet." in page
    assert "No held-out episode was recorded" in page


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (json.dumps({"policy": {}, "episodes": [{}]}), "'suite'"),
        (json.dumps({"episodes": []}), "'policy' is missing"),
        ("[]", "indices"),
        ("{", "column"),
    ],
)
def test_damaged_evaluation_is_named_and_nothing_compared_with_another_one(
    tmp_path, text, reason, caplog
):
    folder = make_run(tmp_path / "run")
    (folder / "evaluations/step_0.json").write_text(text)

    page = write_report([folder]).read_text()

    assert re.search(rf"step_0\.json is not an evaluation of a run .*{reason}", caplog.text)
    assert "step_0.json is not an evaluation of a run" in page
    assert "The evaluation before training is damaged" in page
    assert read_run(folder).evaluations[0].step == 6  # still in the chart of success
    assert "<video" not in page


def test_damaged_later_evaluation_leaves_the_one_before_training(tmp_path):
    folder = make_run(tmp_path / "run")
    (folder / "evaluations/step_6.json").write_text('{"a"')

    page = render_page([folder])

    assert "step_6.json is not an evaluation of a run" in page
    assert "base [" in page
    assert "trained [" not in page


def test_evaluation_of_other_episodes_is_not_compared(tmp_path):
    folder = make_run(tmp_path / "run")
    path = folder / "evaluations/step_6.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"episodes": content["episodes"][1:]}))

    assert "step_6.json is of other episodes than that of step 0" in render_page([folder])


def test_damaged_launches_are_named_and_the_others_shown(tmp_path):
    folder = make_run(tmp_path / "run")
    with (folder / "launches.jsonl").open("a") as file:
        file.write('{"step": 3}\n\n{"step": 1, "ti\n')

    page = render_page([folder])

    assert "launches.jsonl line 2 was not written by a run" in page
    assert "launches.jsonl line 4 was not written by a run" in page
    assert "<dt>device</dt><dd>cpu</dd>" in page


def test_much_damage_is_counted(tmp_path):
    folder = make_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("{\n" * 30)

    assert "and 20 more" in render_page([folder])


def test_videos_of_changed_outcomes_come_first_and_limits_hold(run):
    files = read_run(run)
    pairs = video_pairs(files, 10, 10**9)
    outcomes = [(pair.before.outcome, pair.after.outcome) for pair in pairs]
    changed = [before != after for before, after in outcomes]
    assert len(pairs) == 3
    assert changed == sorted(changed, reverse=True)
    assert len(video_pairs(files, 2, 10**9)) == 2
    assert video_pairs(files, 10, 100) == []


def test_sheet_shows_the_first_camera_from_the_first_frame_to_the_last():
    frames = np.zeros((11, 40, 80, 3), np.uint8)
    frames[:, :, :40] = 20 * np.arange(11, dtype=np.uint8)[:, None, None, None]
    frames[:, :, 40:] = 255  # the other camera
    sheet = contact_sheet(frames, num_cameras=2)
    assert sheet.shape == (120, 6 * 120, 3)
    assert sheet[60, 60::120, 0].tolist() == [0, 40, 80, 120, 160, 200]
