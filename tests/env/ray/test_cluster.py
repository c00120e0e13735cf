"""A Ray cluster of two nodes: the same episodes, on cores that are added late and after a lost node."""

import os
import signal
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from pi0.ript.config.env import RayConfig
from pi0.ript.config.schema import EnvConfig, TaskConfig, TrainConfig
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.env.ray.cluster import RayUnavailableError
from tests.env.pools import ray_pool
from tests.env.toys import ToyPolicy

pytestmark = [pytest.mark.libero, pytest.mark.slow, pytest.mark.alone]

NUM_EPISODES = 6
TASK = TaskConfig(benchmark_name="libero_goal", max_episode_length=12)
STORE_BYTES = 80 * 2**20


def fingerprint(view):
    images = b"".join(policy_step.observation.images.tobytes() for policy_step in view["decisions"])
    return view["outcome"], view["init_hash"], view["actions"].tobytes(), images


class Watcher(ToyPolicy):
    """A policy that runs an action once, before a given call."""

    def __init__(self, number, action):
        super().__init__()
        self._number, self._action = number, action

    def act(self, *batch):
        if len(self.batches) == self._number:
            self._action()
        return super().act(*batch)


def run(env, policy, prepare=lambda pool: None):
    """The episodes of a runner, and its statistics."""
    config = TrainConfig(task=TASK, env=env)
    with PI0LiberoRunner(policy, None, NUM_EPISODES, 4, config=config) as runner:
        pool = runner.create_env("turn_on_the_stove")
        prepare(pool)
        results = runner.run_policy_in_env("turn_on_the_stove", created_env=pool)
        episodes = [fingerprint(view) for _, _, view in results]
        pool.close()
    return episodes, runner.stats


def await_all(pool):
    """Block until every actor of the pool has a node and has loaded its libraries."""
    pool._await_actors(all)


def on(cluster, **rest):
    ray = RayConfig(address=cluster.address, **rest)
    return EnvConfig(backend="ray", num_workers=2, max_scenes=1, ray=ray)


def kill_node(node):
    """Kill every process of a node, as a power failure does; its actors are children of its raylet."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    for pid in [raylet, *map(int, children)]:
        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def cluster():
    # The head has no simulators, as where a learner has a host of its own.
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": STORE_BYTES}
    )
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def process_episodes():
    return run(EnvConfig(num_workers=1), ToyPolicy())[0]


def add_node(cluster):
    return cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)


def test_two_nodes_give_the_episodes_of_the_process_pool(cluster, process_episodes):
    add_node(cluster)
    add_node(cluster)

    episodes, stats = run(on(cluster), ToyPolicy())

    assert episodes == process_episodes
    assert stats.restarts == {}


def test_a_lost_node_loses_no_episode(cluster, process_episodes):
    add_node(cluster)
    lost_node = add_node(cluster)
    policy = Watcher(3, lambda: kill_node(lost_node))

    episodes, stats = run(on(cluster), policy, prepare=await_all)

    assert episodes == process_episodes
    assert stats.restarts == {"died": 1}
    assert stats.num_retries >= 1


def test_a_node_that_is_added_late_is_used(cluster, process_episodes):
    add_node(cluster)
    pools = []

    def grow():
        add_node(cluster)
        await_all(*pools)

    episodes, stats = run(on(cluster), Watcher(1, grow), prepare=pools.append)

    assert episodes == process_episodes
    assert stats.restarts == {}
    assert set(stats.busy_seconds) == {0, 1}


def test_a_cluster_without_room_is_an_error_after_the_timeout(cluster):
    ray = RayConfig(address=cluster.address, start_timeout_s=5.0)
    with (
        ray_pool(ray=ray) as pool,
        pytest.raises(RayUnavailableError, match=r"within 5 s: each needs a core .* 0 of 0 cores"),
    ):
        pool.wait_until_ready()
