"""LIBERO's recordings: what is read of them, and that they succeed again in the simulator."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from pi0.ript.datasets.hdf5 import read_actions, without_noops
from pi0.ript.datasets.opening import open_frames
from pi0.ript.demos.experts.tables import EXPERTS
from pi0.ript.demos.record import ScenePoses
from pi0.ript.env.initial_states import initial_states, make_initial_state
from pi0.ript.env.libero.scene import Scene
from pi0.ript.scripts.demos import card_of, main, make_parser
from pi0.ript.scripts.parts.dataset_flags import spec_and_layout
from pi0.tiny import tiny_card
from tests.policy_parts import raises_one_line

TASK = "turn_on_the_stove"  # 7 of libero_goal


def write_recording(
    folder: Path, demos: dict[str, tuple[np.ndarray, np.ndarray]], task: str = TASK
) -> Path:
    """As LIBERO writes it, but for what is not read: ``demos`` is name -> (states, actions)."""
    path = folder / f"{task}_demo.hdf5"
    with h5py.File(path, "w") as file:
        for name, (states, actions) in demos.items():
            group = file.create_group(f"data/{name}")
            group["actions"], group["states"] = actions, states
    return path


def _actions(count: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (count, 7))


def _states(count: int) -> np.ndarray:
    return np.tile(initial_states("libero_goal", 7)[0], (count, 1))


def test_demonstrations_are_read_in_the_order_of_their_numbers(tmp_path: Path):
    path = write_recording(
        tmp_path, {f"demo_{n}": (_states(n + 2), _actions(n + 2)) for n in (10, 2, 0)}
    )

    demos = read_actions(path)

    assert [demo.name for demo in demos] == ["demo_0", "demo_2", "demo_10"]
    np.testing.assert_array_equal(demos[1].actions, _actions(4).astype(np.float32))
    np.testing.assert_array_equal(demos[1].state, _states(1)[0])


def test_actions_that_do_nothing_are_dropped():
    """Hand still: at the beginning, after the same fingers; kept where the fingers are told to move."""
    move, still = [0.1, 0, 0, 0, 0, 0], [0.0] * 6
    actions = np.array([
        [*still, -1], [*move, -1], [*still, -1], [*still, 1], [*still, 1], [*move, 1],
    ], np.float32)  # fmt: skip

    assert without_noops(actions).tolist() == actions[[1, 3, 5]].tolist()
    assert without_noops(actions[:1]).shape == (0, 7)


def test_images_are_drawn_for_the_policy_that_is_named():
    assert card_of("builtin").spec == card_of(None).spec == tiny_card().spec
    with pytest.raises(FileNotFoundError, match="'nowhere' does not exist"):
        card_of("nowhere")


def refused(argv: list[str], *parts: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError)) as found:
        main(argv)
    assert raises_one_line(found.value, *parts), found.value


def test_recordings_that_cannot_be_played_are_refused_before_a_simulator_starts(tmp_path: Path):
    out = tmp_path / "out"

    def flags(path: Path, suite: str = "libero_goal") -> list[str]:
        return ["--from_hdf5", str(path), "--suite", suite, "--output_dir", str(out)]

    path = write_recording(tmp_path, {"demo_0": (_states(3), _actions(3))})
    refused(flags(path, "libero_object"), str(path), "not of --suite libero_object", TASK)
    refused(flags(path)[:2] + flags(path)[4:], "--from_hdf5 needs --suite")
    refused(flags(tmp_path / "none"), "no recordings (*_demo.hdf5)")
    cases = {
        "states/width": ({"demo_0": (_states(3)[:, 1:], _actions(3))}, ["data/demo_0/states has rows of"]),
        "states/rows": ({"demo_0": (_states(2), _actions(3))}, ["a row for each of 3 actions"]),
        "actions": ({"demo_0": (_states(3), _actions(3)[:, :6])}, ["data/demo_0/actions has shape [3, 6]"]),
        "NaN": ({"demo_0": (_states(3), _actions(3) * np.nan)}, ["holds NaN or infinity"]),
        "nothing": ({}, ["'data' doesn't exist"]),
    }  # fmt: skip
    for demos, parts in cases.values():
        refused(flags(write_recording(tmp_path, demos)), str(path), *parts)
    write_recording(tmp_path, {"demo_0": (_states(300), _actions(300))})
    path.write_bytes(path.read_bytes()[:-2000])
    refused(flags(path), str(path), "damaged", "copy the file again")
    assert not out.exists()


def test_recordings_are_drawn_as_the_flags_say_where_no_policy_decides(tmp_path: Path):
    flags = ["--from_hdf5", "none", "--suite", "libero_goal", "--output_dir", str(tmp_path / "out")]
    refused([*flags, "--render_size", "95"], "--render_size 95 is odd", "use 96")

    both = ["agentview", "robot0_eye_in_hand"]
    arguments = make_parser().parse_args([*flags, "--cameras", *both, "--render_size", "32"])
    spec, layout = spec_and_layout(arguments)
    assert (spec.cameras, spec.height, spec.width) == (tuple(both), 32, 32)
    assert layout.cameras == tuple(both)
    assert spec_and_layout(arguments, tiny_card())[0] == tiny_card().spec


def test_what_no_set_can_hold_is_refused_before_it_is_recorded():
    arguments = make_parser().parse_args(["--output_dir", "out", "--format", "lerobot"])
    for card, parts in (
        (tiny_card(cameras=("agentview", "frontview")), ["camera frontview", "robot0_eye_in_hand"]),
        (tiny_card(image_size=95), ["95 x 95 pixels", "--images png"]),
    ):
        with pytest.raises(ValueError, match="--policy draws") as found:
            spec_and_layout(arguments, card)
        assert raises_one_line(found.value, *parts)


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--fps", "10"], ["--fps has no effect without --format lerobot"]),
        (["--images", "video"], ["--images has no effect without --format lerobot"]),
        (["--format", "lerobot", "--horizon", "5"], ["--horizon", "with --format lerobot"]),
        (
            ["--format", "lerobot", "--policy", "builtin", "--cameras", "agentview"],
            ["--cameras has no effect with --policy", "card"],
        ),
        (["--from_hdf5", "D", "--policy", "P", "--render_size", "96"], ["--render_size", "--policy"]),
        (["--from_hdf5", "D", "--seed", "0"], ["--seed has no effect with --from_hdf5"]),
        (["--from_hdf5", "D", "--num_workers", "2"], ["--num_workers", "--from_hdf5"]),
        (["--from_hdf5", "D", "--format", "ript"], ["--format ript has no effect with --from_hdf5"]),
    ],
)  # fmt: skip
def test_a_flag_that_would_change_nothing_is_refused(
    tmp_path: Path, flags: list[str], parts: list[str]
):
    refused(["--output_dir", str(tmp_path / "out"), *flags], *parts, "leave it out")


@pytest.mark.libero
@pytest.mark.slow
def test_a_recording_succeeds_again_and_is_written_as_the_policy_sees_it(tmp_path: Path):
    card = tiny_card()
    scene = Scene("libero_goal", 7, card.spec, num_slots=1, num_steps_wait=10)
    start = make_initial_state("libero_goal", 7, 0, 0)
    first, actions = scene.restore(0, start), []
    for action in EXPERTS["libero_goal", 7](ScenePoses(scene)):
        actions += [action, np.array([0, 0, 0, 0, 0, 0, action[6]])]  # which does nothing
        if scene.execute(0, action[None].astype(np.float32)).is_success:
            break
    scene.close()
    whole = (np.tile(start.state, (len(actions), 1)), np.array(actions))
    path = write_recording(tmp_path, {"demo_0": whole, "demo_1": (whole[0][:9], whole[1][:9])})
    out = tmp_path / "set"

    main(
        [
            "--from_hdf5",
            str(path),
            "--suite",
            "libero_goal",
            "--output_dir",
            str(out),
            "--policy",
            "builtin",
            "--images",
            "png",
        ]
    )

    frames = open_frames(out, card.cameras)
    assert frames.tasks == ("turn on the stove",)
    assert set(frames.episode_index) == {0}  # the other one ends too early
    assert len(frames) <= len(actions) // 2
    np.testing.assert_array_equal(frames.read_images(np.array([0]))[0], first.images)
    np.testing.assert_array_equal(
        frames.read_chunks(np.array([0]), 1)[0, 0], actions[0].astype(np.float32)
    )
