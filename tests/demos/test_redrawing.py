"""Which held-out episodes of a run are drawn again, and that they are drawn as they happened."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pi0.ript.config.load import save_config
from pi0.ript.config.schema import TrainConfig
from pi0.ript.demos.redrawing import choose_episodes, redraw
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.scene import Scene
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.episodes import evaluation_path, write_evaluation
from pi0.ript.report.action_log import ActionLog, evaluation_actions_name
from pi0.ript.report.page.run_files import Evaluation, RunFiles, read_run
from pi0.ript.report.page.videos import video_pairs
from pi0.ript.report.video import REDRAWN, read_video
from pi0.ript.scripts.report import main, parse
from pi0.tiny import tiny_card
from tests.report.test_action_log import episode

SUITE, TASK_ID = "libero_goal", 7


def record(seed: int, outcome: str, task_id: int = TASK_ID) -> EpisodeRecord:
    return EpisodeRecord(
        suite=SUITE, task_id=task_id, task="turn on the stove", state_index=30, seed=seed,
        outcome=outcome, num_steps=10, num_decisions=3,
    )  # fmt: skip


def run_of(before: str, after: str) -> RunFiles:
    """A run whose episodes ended so: s(uccess), f(ailure) or c(rashed), before and after."""
    words = {"s": "success", "f": "failure", "c": "crashed"}
    evaluations = tuple(
        Evaluation(
            step=step,
            policy={},
            episodes=tuple(record(n, words[each]) for n, each in enumerate(outcomes)),
        )
        for step, outcomes in ((0, before), (8, after))
    )
    return RunFiles(
        folder=Path("run"), config=TrainConfig(), evaluations=evaluations, launches=(), damage=(),
        has_base=True, request={},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("sffs", "sssf", [1, 3]),  # what was gained, what was lost: not what stayed as it was
        ("sf", "sf", [0, 1]),
        ("ss", "ss", [0]),
        ("cf", "ss", [1]),  # a crashed simulator shows nothing
    ],
)
def test_a_success_and_a_failure_of_a_task_are_chosen_changed_ones_first(before, after, expected):
    chosen = choose_episodes(run_of(before, after))

    for step in (0, 8):
        assert sorted(key[-1] for at, key in chosen if at == step) == expected


def test_pixels_that_no_video_can_have_are_refused():
    with pytest.raises(ValueError, match="--redraw must be even"):
        parse(["run", "--redraw", "255"])
    with pytest.raises(ValueError, match="--redraw must be >= 16"):
        parse(["run", "--redraw", "8"])
    assert parse(["run", "--redraw"]).redraw == 256


def write_run(folder, card_cameras=("agentview",)):
    """A run directory with an evaluation before and after a step, whose actions are not kept."""
    folder.mkdir()
    save_config(TrainConfig(), folder / "config.yaml")
    for step in (0, 1):
        path = evaluation_path(folder, step)
        write_evaluation(path, {"cameras": list(card_cameras)}, [record(1, "failure")])
    return folder


def test_a_run_that_kept_no_actions_is_named(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="holds the actions of 0 of 2 episodes to draw"):
        redraw(run, 32, num_workers=1)
    assert not (run / "videos").exists()


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A run whose held-out episode is ten chance actions, before and after; and the last image before its last action."""
    folder = write_run(tmp_path_factory.mktemp("redrawn") / "run")
    state = make_initial_state(SUITE, TASK_ID, 30, 0)
    done = episode("failure", 1)
    done = replace(done, request=replace(done.request, initial_state=state))
    for step in (0, 1):
        path = evaluation_path(folder, step).with_name(evaluation_actions_name(step, 0))
        log = ActionLog(path, "all", 10)
        log.append([log.entry(step, done)])
        log.close()
    spec = replace(tiny_card().spec, height=64, width=64)
    scene = Scene(SUITE, TASK_ID, spec, num_slots=1, num_steps_wait=10)
    scene.restore(0, state)
    actions = np.concatenate([s.chunk.actions[: s.num_executed] for s in done.policy_steps])
    scene.execute(0, actions[:-2])
    last = scene.execute(0, actions[-2:-1]).observation.images[0][::-1]
    scene.close()
    return folder, last


@pytest.mark.libero
def test_every_control_step_is_drawn_and_the_page_shows_it(evaluated):
    folder, last = evaluated

    main([str(folder), "--redraw", "64"])

    (path,) = (folder / "videos" / REDRAWN / "step_1").glob("*.mp4")
    frames = read_video(path)
    assert len(frames) == 10
    # what was seen before the last action; the encoder enlarges small images and loses some levels
    shown = frames[-1][:: frames.shape[1] // 64, :: frames.shape[2] // 64].astype(int)
    assert np.abs(shown - last).mean() < 6
    (pair,) = video_pairs(read_run(folder), 10, 10**9)
    assert pair.after is not None
    assert (pair.before.step, pair.after.step) == (0, 1)
    assert "data:video/mp4" in (folder / "report.html").read_text()


@pytest.mark.libero
def test_an_episode_that_ends_otherwise_is_an_error(evaluated, tmp_path):
    folder, _ = evaluated
    run = write_run(tmp_path / "run")
    for step in (0, 1):
        name = evaluation_actions_name(step, 0)
        line = json.loads((folder / "evaluations" / name).read_text())
        stored = json.dumps(line | {"outcome": "success"}) + "\n"
        (run / "evaluations" / name).write_text(stored)
    with pytest.raises(ChildProcessError, match="re-playing"):
        redraw(run, 32, num_workers=1)
