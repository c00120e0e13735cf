"""The model of rollout against what can be worked out by hand."""

from dataclasses import replace

import pytest

from benchmarks.rollout_model.costs import Costs
from benchmarks.rollout_model.events import Processor
from benchmarks.rollout_model.layout import Layout, Work
from benchmarks.rollout_model.prediction import predict

# An episode is a restore of 0.1 s and 10 policy steps of 10 control steps of 2 ms and, but for the last, 30 ms of drawing.
COSTS = Costs(
    step_s=0.002,
    render_s=0.03,
    restore_s=0.1,
    request_s=0.0,
    inference_s=0.02,
    reply_s=0.0,
    observation_bytes=0,
)
SIMULATOR_S = 0.1 + 10 * 0.02 + 9 * 0.03
ONE = Layout(num_slots=1, workers_per_host=1, cores_per_host=16, batch_size=4)


def per_minute(costs: Costs = COSTS, layout: Layout = ONE, episodes: int = 160) -> float:
    return predict(costs, layout, Work(num_episodes=episodes)).steady_episodes_per_minute


def test_one_slot_takes_the_sum_of_all_costs():
    episode_s = SIMULATOR_S + 10 * 0.02

    assert per_minute() == pytest.approx(60 / episode_s)


def test_what_commands_and_replies_take_is_added():
    # 11 requests and replies per episode
    costs = replace(COSTS, request_s=0.001, reply_s=0.002)

    assert per_minute(costs) == pytest.approx(60 / (SIMULATOR_S + 0.2 + 11 * 0.003))


def test_many_slots_of_one_worker_hide_the_policy_behind_the_simulator():
    busy = per_minute(layout=replace(ONE, num_slots=16))

    assert busy == pytest.approx(60 / SIMULATOR_S, rel=0.02)


@pytest.mark.parametrize("num_workers", [2, 8])
def test_workers_multiply_where_the_policy_is_free(num_workers: int):
    costs = replace(COSTS, inference_s=0.0)
    layout = replace(ONE, workers_per_host=num_workers, num_slots=4 * num_workers)

    assert per_minute(costs, layout, 640) == pytest.approx(num_workers * 60 / SIMULATOR_S, rel=0.02)


def test_a_saturated_policy_gives_its_batch_rate():
    # 4 samples per 20 ms are 200 policy steps per second, 20 episodes
    layout = replace(ONE, workers_per_host=32, cores_per_host=64, num_slots=128)
    found = predict(COSTS, layout, Work(num_episodes=1280))

    # a worker without work is served at once, so that a few batches are not full
    assert found.steady_episodes_per_minute == pytest.approx(60 * 20, rel=0.03)
    assert found.bottleneck == "inference"
    assert found.busy["inference"] == pytest.approx(1.0, abs=0.03)


def test_a_saturated_link_gives_its_byte_rate():
    # 20 MB per observation at 1 GB/s: 50 replies per second, 11 per episode; half of the workers are remote, on a
    # host of their own
    costs = replace(
        COSTS,
        observation_bytes=20_000_000,
        inference_s=0.0,
        step_s=0.0,
        render_s=0.0,
        restore_s=0.5,
    )
    layout = Layout(
        num_hosts=2, num_slots=256, workers_per_host=64, cores_per_host=64, batch_size=256,
        network_bytes_per_s=1e9, latency_s=0.0,
    )  # fmt: skip
    found = predict(costs, layout, Work(num_episodes=1024))

    assert found.bottleneck == "transfer"
    # remote episodes: 50 / 11 per second; local ones share the restarts, so at least those count
    assert found.busy["transfer"] == pytest.approx(1.0, abs=0.1)


def test_a_policy_on_the_simulators_core_takes_turns_with_them():
    layout = replace(ONE, num_slots=8, cores_per_host=1, infers_on_cpu=True)
    # full batches of 4 samples: a quarter of 20 ms for each of 10 policy steps
    episode_s = SIMULATOR_S + 10 * 0.02 / 4

    assert per_minute(layout=layout, episodes=200) == pytest.approx(60 / episode_s, rel=0.1)


def test_learners_with_hosts_of_their_own_multiply():
    one = Layout(num_slots=32, workers_per_host=8, cores_per_host=8, batch_size=8)
    four = replace(one, num_hosts=4, num_learners=4, num_slots=128)

    assert per_minute(layout=four) == pytest.approx(4 * per_minute(layout=one))


def test_remote_hosts_without_latency_and_with_a_fast_link_are_like_local_ones():
    local = Layout(num_slots=64, workers_per_host=16, cores_per_host=16, batch_size=8)
    spread = replace(
        local, num_hosts=4, workers_per_host=4, cores_per_host=4, latency_s=0.0,
        network_bytes_per_s=1e18,
    )  # fmt: skip

    assert per_minute(layout=spread, episodes=400) == pytest.approx(
        per_minute(layout=local, episodes=400), rel=0.01
    )


def test_cores_that_slow_each_other_down_do_so_only_when_all_are_busy():
    costs = replace(COSTS, slowdown=0.5, inference_s=0.0)
    layout = Layout(num_slots=1, workers_per_host=1, cores_per_host=2, batch_size=1)
    both = replace(layout, num_slots=2, workers_per_host=2)

    assert per_minute(costs, layout) == pytest.approx(60 / SIMULATOR_S)
    # two episodes at half the speed
    assert per_minute(costs, both) == pytest.approx(60 / SIMULATOR_S, rel=0.05)


@pytest.mark.parametrize(
    ("change", "bottleneck"),
    [
        ({"step_s": 0.02}, "simulation"),
        ({"render_s": 0.3}, "rendering"),
        ({"restore_s": 5.0}, "restore"),
        ({"inference_s": 2.0}, "inference"),
        ({"reply_s": 1.0}, "transfer"),
    ],
)
def test_the_bottleneck_is_what_was_made_slow(change: dict[str, float], bottleneck: str):
    layout = replace(ONE, num_slots=8, workers_per_host=2)

    assert predict(replace(COSTS, **change), layout, Work(num_episodes=40)).bottleneck == bottleneck


def test_spread_costs_a_little_and_repeats():
    layout = replace(ONE, num_slots=8, workers_per_host=4)
    varied = replace(COSTS, spread=0.3)

    assert per_minute(varied, layout, 400) == per_minute(varied, layout, 400)
    assert 0.8 < per_minute(varied, layout, 400) / per_minute(layout=layout, episodes=400) < 1.05


def test_a_processor_shares_its_cores_equally():
    # Two cores, three tasks of 2 s each: 2/3 of a core for each, so all end after 3 s.
    processor = Processor(cores=2, slowdown=0.0)
    for _ in range(3):
        processor.add(0.0, 2.0, lambda: None)

    assert processor.next_time == pytest.approx(3.0)
    processor.finish(3.0)
    # the others have had as much, and end at the same moment
    assert processor.next_time == pytest.approx(3.0)
