"""Simulators as Ray actors on this host: the same episodes, and what happens when one is lost."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pi0.ript.config.env import RayConfig
from pi0.ript.config.schema import EnvConfig, TaskConfig, TrainConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.headless import RenderingError
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.pool.ledger import PoolClosedError
from pi0.ript.env.ray.cluster import RayUnavailableError, require_shared_memory
from tests.env.pools import ray_pool
from tests.env.toys import SPEC, ToyPolicy

pytestmark = pytest.mark.alone

NUM_EPISODES = 5
SECRET = "OPENAI_API_KEY"
TASK = TaskConfig(benchmark_name="libero_goal", max_episode_length=10)
STATE = make_initial_state("libero_goal", 7, 0, fixture_seed=0)


def is_running(pid):
    return Path(f"/proc/{pid}").exists()


def wait_until(is_met, patience_s=10.0):
    deadline = time.monotonic() + patience_s
    while not is_met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def episodes(env, pool=None):
    """The images, actions and outcomes of five episodes, bit for bit."""
    config = TrainConfig(task=TASK, env=env)
    with PI0LiberoRunner(ToyPolicy(), None, NUM_EPISODES, NUM_EPISODES, config=config) as runner:
        results = runner.run_policy_in_env("turn_on_the_stove", created_env=pool)
        return [
            (
                view["outcome"],
                view["init_hash"],
                view["actions"].tobytes(),
                b"".join(d.observation.images.tobytes() for d in view["decisions"]),
            )
            for _, _, view in results
        ]


def wait_for(pool, count):
    replies = []
    while len(replies) < count:
        replies += pool.wait()
    return {reply.slot: reply for reply in replies}


@pytest.fixture(scope="module")
def own_handler():
    """The program's handler of SIGTERM, set before Ray starts."""

    def handler(_signal, _frame):
        raise SystemExit(143)

    earlier = signal.signal(signal.SIGTERM, handler)
    yield handler
    signal.signal(signal.SIGTERM, earlier)


@pytest.fixture(scope="module")
def pool(own_handler):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(SECRET, "secret")
        with ray_pool(num_slots=3, num_workers=2) as pool:
            pool.wait_until_ready()
            assert os.environ[SECRET] == "secret"
            yield pool


@pytest.fixture(scope="module")
def process_episodes():
    return episodes(EnvConfig(num_workers=1))


@pytest.mark.libero
def test_episodes_equal_those_of_the_process_pool(pool, process_episodes):
    assert {outcome for outcome, *_ in process_episodes} <= {"success", "failure"}
    assert episodes(EnvConfig(backend="ray"), pool) == process_episodes


@pytest.mark.libero
def test_compressed_images_are_the_same_and_pools_share_one_instance(pool, process_episodes):
    env = EnvConfig(backend="ray", num_workers=1, ray=RayConfig(compress_images=True))

    assert episodes(env) == process_episodes

    # The other pool still works.
    pool.restore(0, STATE)
    assert wait_for(pool, 1)[0].error == ""


@pytest.mark.libero
def test_actors_are_single_threaded_processes_that_never_load_torch(pool):
    for modules in pool.worker_modules():
        assert {"mujoco", "libero", "numpy"} <= modules
        assert not {"torch", "transformers", "draccus"} & modules
    for pid in pool.pids:
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        assert {"LP_NUM_THREADS=1", "OMP_NUM_THREADS=1"} <= set(variables)
        assert f"{SECRET}=secret" not in variables


@pytest.mark.libero
@pytest.mark.usefixtures("pool")
def test_the_program_keeps_its_own_handler_of_sigterm(own_handler):
    assert signal.getsignal(signal.SIGTERM) is own_handler


@pytest.mark.libero
def test_a_killed_actor_is_replaced_and_its_slots_report_the_loss(pool):
    for slot in range(3):
        pool.restore(slot, STATE)
    wait_for(pool, 3)
    killed, neighbor = pool.pids

    os.kill(killed, signal.SIGKILL)
    pool.execute(0, np.zeros((1, 7), np.float32))  # slots 0 and 2 belong to the first actor
    pool.execute(1, np.zeros((1, 7), np.float32))
    replies = wait_for(pool, 2)

    assert (replies[0].fault, "died" in replies[0].error) == ("died", True)
    assert replies[1].error == ""
    pool.execute(2, np.zeros((1, 7), np.float32))  # its simulation ended with the actor
    assert wait_for(pool, 1)[2].fault == "lost"
    pool.wait_until_ready()
    assert pool.pids[1] == neighbor
    assert pool.pids[0] not in (0, killed)


@pytest.mark.libero
def test_a_hung_actor_is_replaced():
    with ray_pool(timeout_s=1.0) as pool:
        pool.wait_until_ready()
        [pid] = pool.pids
        os.kill(pid, signal.SIGSTOP)
        pool.restore(0, STATE)
        [reply] = pool.wait()
    assert (reply.fault, "sent no reply for 1 s" in reply.error) == ("hung", True)
    wait_until(lambda: not is_running(pid))


@pytest.mark.libero
def test_close_ends_what_was_started_and_refuses_work(pool):
    other = ray_pool()
    other.wait_until_ready()
    [pid] = other.pids

    other.close()
    other.close()

    assert not is_running(pid)
    with pytest.raises(PoolClosedError, match="is closed"):
        other.restore(0, STATE)


@pytest.mark.libero
def test_an_actor_that_draws_unlike_the_first_ends_the_run(pool, monkeypatch):
    assert "GL renderer" in pool.driver

    with ray_pool() as other:
        monkeypatch.setattr(other, "_driver", pool.driver | {"GL renderer": "a GPU"})
        monkeypatch.setattr(other, "_first_host", "wren")
        with pytest.raises(ValueError, match=r"GL renderer .* instead of a GPU on wren"):
            other.wait_until_ready()


@pytest.mark.libero
def test_a_host_without_rendering_is_named(pool):
    with ray_pool(egl_device=99) as other:
        other.restore(0, STATE)
        with pytest.raises(RenderingError, match=r"on host .* could not start: EGL device 99 "):
            other.wait()


@pytest.mark.libero
def test_a_program_without_rendering_ends_in_one_line_with_every_process():
    program = """
    from pi0.ript.scripts.exits import run_main
    from tests.env.pools import ray_pool

    def main(argv):
        with ray_pool(num_slots=2, num_workers=2) as pool:
            pool.wait_until_ready()

    run_main(main, [])
    """
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        result = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program)],
            env={**os.environ, "MUJOCO_EGL_DEVICE_ID": "99", "RAY_TMPDIR": folder},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert result.returncode == 2
        assert result.stderr.startswith("error: a simulator on host ")
        assert result.stderr.count("\n") == 1
        assert list(Path(folder).iterdir()) == []
        # Every process of an instance names its folder on its command line.
        assert not any(folder in _text(path) for path in Path("/proc").glob("[0-9]*/cmdline"))


@pytest.mark.libero
@pytest.mark.slow
def test_no_package_of_the_current_folder_is_imported_by_actors(tmp_path):
    program = """
    from tests.env.pools import ray_pool

    with ray_pool() as pool:
        pool.wait_until_ready()
    """
    for name in ("numpy", "robosuite", "libero"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the folder')")

    result = subprocess.run(
        [sys.executable, "-P", "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert result.returncode == 0, result.stderr


def _text(path):
    try:
        return path.read_text()
    except OSError:
        return ""  # ended in between


@pytest.mark.parametrize(
    ("spec", "sizes", "message"),
    [
        (replace(SPEC, cameras=("agentvew",)), {}, "no LIBERO scene has a camera 'agentvew'"),
        (SPEC, {"num_slots": 10**7}, "need up to .* GB of memory"),
        (SPEC, {"num_slots": 0}, "num_slots must be >= 1, got 0"),
    ],
)
def test_impossible_simulators_are_refused_before_ray_is_started(spec, sizes, message):
    with pytest.raises(ValueError, match=message):
        ray_pool(spec=spec, **sizes)


def test_without_ray_the_extra_to_install_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'pi0-ript\[ray\]'"):
        ray_pool()


def test_the_error_of_small_shared_memory_names_what_to_type(tmp_path):
    require_shared_memory(str(tmp_path), 1)
    with pytest.raises(RayUnavailableError, match=r"needs 1000000000 MB .* --shm-size="):
        require_shared_memory(str(tmp_path), 10**15)
