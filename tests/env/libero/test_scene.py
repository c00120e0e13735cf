"""The scene equals LIBERO's own OffScreenRenderEnv: states bit for bit, images pixel for pixel."""

import numpy as np
import pytest

from pi0.records import ObservationSpec
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.interfaces import DivergedError
from pi0.ript.types import InitialState

pytestmark = pytest.mark.libero

CAMERAS = ("agentview", "robot0_eye_in_hand")
SPEC = ObservationSpec(cameras=CAMERAS, height=64, width=64)
SUITE, TASK = "libero_goal", 7  # turn on the stove: has fixtures and a burner that changes color
SETTLE = [0, 0, 0, 0, 0, 0, -1]
KNOB = "flat_stove_1_button"


def open_scene(suite, task, num_steps_wait=10):
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415 - only simulator tests load the simulator

    return Scene(suite, task, SPEC, num_slots=3, num_steps_wait=num_steps_wait)


def open_peer(suite, task):
    from benchmarks.simulator.peer import LiberoPeer  # noqa: PLC0415 - as above

    return LiberoPeer(suite, task, size=64)


@pytest.fixture(scope="module")
def scene():
    scene = open_scene(SUITE, TASK)
    yield scene
    scene.close()


@pytest.fixture(scope="module")
def peer():
    peer = open_peer(SUITE, TASK)
    yield peer
    peer.close()


def actions(seed, count):
    noise = np.random.default_rng(seed).normal(0, 0.6, (count, 7))
    return np.clip(noise, -1, 1).astype(np.float32)


def assert_equal(scene, slot, observation, peer, expected):
    np.testing.assert_array_equal(scene.physics_state(slot), peer.physics_state())
    np.testing.assert_array_equal(observation.proprio, expected.proprio)
    np.testing.assert_array_equal(observation.images, expected.images)


def compare_episode(scene, peer, initial_state, chunks, slot=0):
    observation = scene.restore(slot, initial_state)
    assert_equal(scene, slot, observation, peer, peer.start(initial_state))
    for chunk in chunks:
        result = scene.execute(slot, chunk)
        num_steps, done = 0, False
        while num_steps < len(chunk) and not done:
            expected, done = peer.step(chunk[num_steps])
            num_steps += 1
        assert (result.is_success, result.num_steps) == (done, num_steps)
        assert_equal(scene, slot, result.observation, peer, expected)


def with_knob(scene, initial_state, angle):
    """The same situation with the stove's knob turned by hand; qpos starts after the time."""
    address = scene._env.sim.model.get_joint_qpos_addr(KNOB)
    state = initial_state.state.copy()
    state[1 + address] = angle
    return InitialState(suite=SUITE, task_id=TASK, index=-1, fixture_seed=2, state=state)


def test_an_episode_equals_liberos_bit_for_bit(scene, peer):
    initial_state = make_initial_state(SUITE, TASK, 3, fixture_seed=5)

    compare_episode(scene, peer, initial_state, [actions(n, 3 + n) for n in range(4)])


def test_other_fixture_poses_and_a_success_equal_liberos_too(scene, peer):
    # The stove is on when the knob is beyond 0.5 rad, so the first step already succeeds.
    initial_state = with_knob(scene, make_initial_state(SUITE, TASK, 1, 0), 1.0)

    compare_episode(scene, peer, initial_state, [actions(0, 4)], slot=1)


def test_without_settling_the_observation_is_that_of_the_set_state(peer):
    scene = open_scene(SUITE, TASK, num_steps_wait=0)
    initial_state = make_initial_state(SUITE, TASK, 8, fixture_seed=1)

    observation = scene.restore(0, initial_state)
    expected = peer.start(initial_state, num_steps_wait=0)

    assert_equal(scene, 0, observation, peer, expected)
    scene.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("suite", "task"),
    [("libero_10", 2), ("libero_goal", 3), ("libero_object", 0), ("libero_spatial", 2)],
)
def test_other_suites_equal_libero(suite, task):
    scene, peer = open_scene(suite, task), open_peer(suite, task)
    initial_state = make_initial_state(suite, task, 11, fixture_seed=5)

    compare_episode(scene, peer, initial_state, [actions(n, 10) for n in range(4)])
    scene.close()
    peer.close()


def test_success_is_sticky(scene):
    scene.restore(0, with_knob(scene, make_initial_state(SUITE, TASK, 1, 0), 1.0))

    first = scene.execute(0, actions(0, 4))
    again = scene.execute(0, actions(1, 4))

    assert (first.is_success, first.num_steps) == (True, 1)
    assert (again.is_success, again.num_steps) == (True, 0)
    assert scene.execute(0, actions(1, 4), observe_when_solved=False).observation is None


def test_slots_are_independent_of_their_neighbors(scene):
    starts = [make_initial_state(SUITE, TASK, n, fixture_seed=n) for n in range(3)]
    starts[1] = with_knob(scene, starts[1], 0.4)
    plans = [[actions(10 * slot + n, 2) for n in range(3)] for slot in range(3)]

    def run_by_itself(slot):
        observations = [scene.restore(0, starts[slot])]
        observations += [scene.execute(0, chunk).observation for chunk in plans[slot]]
        return observations, scene.physics_state(0)

    by_itself = [run_by_itself(slot) for slot in range(3)]
    together = [[scene.restore(slot, starts[slot])] for slot in range(3)]
    order = np.random.default_rng(0).permutation([0, 0, 0, 1, 1, 1, 2, 2, 2])
    for slot in order:
        chunk = plans[slot][len(together[slot]) - 1]
        together[slot].append(scene.execute(slot, chunk).observation)

    for slot, (observations, state) in enumerate(by_itself):
        np.testing.assert_array_equal(scene.physics_state(slot), state)
        for mine, theirs in zip(together[slot], observations, strict=True):
            np.testing.assert_array_equal(mine.images, theirs.images)
            np.testing.assert_array_equal(mine.proprio, theirs.proprio)


def test_a_cached_restore_continues_like_the_first_one(scene):
    initial_state = make_initial_state(SUITE, TASK, 20, fixture_seed=3)

    def episode(slot):
        observation = scene.restore(slot, initial_state)
        result = scene.execute(slot, actions(4, 6))
        return observation.images, scene.physics_state(slot), result.observation.images

    first = episode(0)
    scene.restore(1, make_initial_state(SUITE, TASK, 21, fixture_seed=9))
    scene.execute(1, actions(5, 6))

    for slot in (1, 0):
        for mine, theirs in zip(episode(slot), first, strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_the_fixture_seed_decides_where_the_fixtures_stand(scene):
    def cabinet(seed):
        scene.restore(0, make_initial_state(SUITE, TASK, 0, fixture_seed=seed))
        return scene.body_pose(0, "wooden_cabinet_1_main")[0]

    np.testing.assert_array_equal(cabinet(1), cabinet(1))
    assert np.abs(cabinet(1) - cabinet(2)).max() > 1e-4


def test_restoring_leaves_numpys_global_generator_alone(scene):
    np.random.seed(7)  # noqa: NPY002 - the generator LIBERO uses
    expected = np.random.rand()  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002

    scene.restore(0, make_initial_state(SUITE, TASK, 30, fixture_seed=11))

    assert np.random.rand() == expected  # noqa: NPY002


def test_more_than_a_thousand_steps_raise_nothing(scene):
    scene.restore(0, make_initial_state(SUITE, TASK, 0, fixture_seed=0))
    still = np.tile(np.float32(SETTLE), (1010, 1))

    assert scene.execute(0, still, observe=False).num_steps == 1010


def test_execute_without_observation_changes_no_physics(scene):
    initial_state = make_initial_state(SUITE, TASK, 0, fixture_seed=0)
    for slot, observe in ((0, True), (1, False)):
        scene.restore(slot, initial_state)
        result = scene.execute(slot, actions(3, 5), observe=observe)
        assert (result.observation is not None) is observe

    np.testing.assert_array_equal(scene.physics_state(0), scene.physics_state(1))


def test_wrong_input_is_refused(scene):
    scene.restore(0, make_initial_state(SUITE, TASK, 0, fixture_seed=0))
    with pytest.raises(ValueError, match=r"shape \[h, 7\], got \[7\]"):
        scene.execute(0, np.zeros(7, np.float32))
    with pytest.raises(ValueError, match="finite"):
        scene.execute(0, np.full((2, 7), np.nan, np.float32))
    other = make_initial_state("libero_goal", 6, 0, fixture_seed=0)
    with pytest.raises(ValueError, match="libero_goal task 7, the initial state belongs to"):
        scene.restore(0, other)
    short = InitialState(
        suite=SUITE, task_id=TASK, index=-1, fixture_seed=0, state=np.zeros(8, np.float64)
    )
    with pytest.raises(ValueError, match="have length 79, got 8"):
        scene.restore(0, short)


def test_an_unknown_camera_names_the_allowed_ones():
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415

    spec = ObservationSpec(cameras=("sideview2",), height=8, width=8)
    with pytest.raises(ValueError, match=r"no camera 'sideview2'.*agentview"):
        Scene(SUITE, TASK, spec, num_slots=1, num_steps_wait=0)


def test_diverged_physics_are_an_error_and_leave_no_file_behind(scene, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scene.restore(0, make_initial_state(SUITE, TASK, 0, 0))
    scene._slots[0].data.qvel[:] = 1e12
    chunk = actions(0, 3)
    with pytest.raises(DivergedError, match="of libero_goal task 7 diverged at action") as caught:
        scene.execute(0, chunk)
    assert not list(tmp_path.iterdir())

    assert caught.value.num_steps == 1  # the step that diverged is the last of them
    named = str(caught.value).split("[")[1].rstrip("]").split(", ")
    np.testing.assert_array_equal(np.array(named, np.float32), chunk[0])


def test_a_slot_whose_physics_diverged_is_as_good_as_new_once_restored(scene):
    initial_state = make_initial_state(SUITE, TASK, 0, 0)
    for slot in (0, 1):
        scene.restore(slot, initial_state)
    scene._slots[0].data.qvel[:] = 1e12
    with pytest.raises(DivergedError):
        scene.execute(0, actions(0, 3))
    scene.restore(0, initial_state)
    for slot in (0, 1):  # slot 1 was there all along
        scene.execute(slot, actions(0, 3))
    np.testing.assert_array_equal(scene.physics_state(0), scene.physics_state(1))


def test_a_state_that_diverges_while_it_settles_does_so_every_time(scene):
    state = make_initial_state(SUITE, TASK, 0, 0).state.copy()
    state[-1] = 1e300
    initial_state = InitialState(suite=SUITE, task_id=TASK, index=-1, fixture_seed=0, state=state)
    for _ in range(2):  # it is not kept as if it had settled
        with pytest.raises(DivergedError, match="diverged while settling") as caught:
            scene.restore(0, initial_state)
        assert caught.value.num_steps == 0


def test_a_video_shows_what_libero_shows_after_every_step(scene, peer):
    initial_state = make_initial_state(SUITE, TASK, 3, fixture_seed=5)
    scene.restore(0, initial_state)
    peer.start(initial_state)

    for chunk in [actions(n, 3 + n) for n in range(3)]:
        video = scene.execute(0, chunk, video=True).frames
        expected = [peer.step(action)[0].images for action in chunk]
        np.testing.assert_array_equal(video, np.stack(expected))


@pytest.mark.parametrize("observe", [True, False])
def test_recording_a_video_changes_nothing_else(scene, observe):
    """Two neighbors start alike and do the same, one of them recorded, up to success and beyond."""
    initial_state = with_knob(scene, make_initial_state(SUITE, TASK, 1, 0), 0.45)
    for slot in (0, 1):
        scene.restore(slot, initial_state)
    for chunk in [actions(n, 1 + n) for n in range(4)]:
        plain = scene.execute(0, chunk, observe=observe)
        recorded = scene.execute(1, chunk, observe=observe, video=True)

        np.testing.assert_array_equal(scene.physics_state(0), scene.physics_state(1))
        assert (plain.is_success, plain.num_steps) == (recorded.is_success, recorded.num_steps)
        assert len(recorded.frames) == recorded.num_steps
        assert plain.frames is None
        if observe:
            np.testing.assert_array_equal(plain.observation.images, recorded.observation.images)
            np.testing.assert_array_equal(plain.observation.proprio, recorded.observation.proprio)
            np.testing.assert_array_equal(recorded.frames[-1], plain.observation.images)


def test_a_video_shows_the_step_that_solved_the_task_although_no_policy_step_follows(scene):
    scene.restore(0, with_knob(scene, make_initial_state(SUITE, TASK, 1, 0), 1.0))

    solved = scene.execute(0, actions(0, 4), observe_when_solved=False, video=True)
    again = scene.execute(0, actions(1, 4), video=True)

    assert solved.observation is None
    assert len(solved.frames) == solved.num_steps == 1
    assert again.frames is None
