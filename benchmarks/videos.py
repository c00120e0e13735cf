"""What a video of every episode costs a rollout: the embedded policy, the same episodes with and without.

    python benchmarks/videos.py [--quick] [--json FILE] [--slots 8]

A video is made of the images that are drawn anyway, one per policy step. ``rollout`` is the time until the last
episode is delivered, ``videos on disk`` the time until the last video is written.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if not __package__:  # started as a script, which finds modules of its own folder only
    sys.path[0] = str(Path(__file__).parents[1])

import torch

from benchmarks.parts.measure import add_output_arguments, median_ratio, table, write_json
from pi0.checkpoint import load_policy
from pi0.records import Sampling
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.pi0_libero_runner_ript_vla import PI0LiberoRunner
from pi0.ript.report.video import EpisodeVideos, VideoWriter
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeRequest

SUITE, TASK_ID = "libero_goal", 7
MAX_STEPS = 100
SAMPLING = Sampling(num_steps=4, noise_scale=0.5)


def requests(num_episodes: int, *, record_video: bool) -> list[EpisodeRequest]:
    """Return the fixed episodes of a rollout."""
    return [
        EpisodeRequest(
            initial_state=make_initial_state(SUITE, TASK_ID, n % 8, fixture_seed=0),
            seed=derive_seed("filming", n),
            max_steps=MAX_STEPS,
            rollout=n,
            record_video=record_video,
        )
        for n in range(num_episodes)
    ]


def sample(
    runner: PI0LiberoRunner, num_episodes: int, *, record_video: bool
) -> tuple[float, float]:
    """Return seconds until the last episode was delivered and until the last video was on disk."""
    waiting = iter(requests(num_episodes, record_video=record_video))
    delivered: list[Episode] = []
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with VideoWriter(max_films=num_episodes, max_megabytes=1000) as writer:
            video = EpisodeVideos(writer, Path(folder), delivered.append)
            for episode in runner.run(lambda: next(waiting, None), SAMPLING):
                video(episode)
            rollout_s = time.perf_counter() - started
        encoded_s = time.perf_counter() - started
        num_videos = len(list(Path(folder).glob("*.mp4")))
    assert num_videos == (num_episodes if record_video else 0), f"{num_videos} videos"
    return rollout_s, encoded_s


def compare(runner: PI0LiberoRunner, num_episodes: int, num_rounds: int) -> dict[str, Any]:
    """Measure with videos and without in turns, after one rollout that builds scenes."""
    sample(runner, num_episodes, record_video=True)
    plain, recorded, encoded = [], [], []
    for _ in range(num_rounds):
        plain.append(sample(runner, num_episodes, record_video=False)[0])
        rollout_s, encoded_s = sample(runner, num_episodes, record_video=True)
        recorded.append(rollout_s)
        encoded.append(encoded_s)
    return {
        "num_episodes": num_episodes,
        "seconds": {"plain": plain, "with videos": recorded, "videos on disk": encoded},
        "with_videos_over_plain": median_ratio(recorded, plain),
        "videos_on_disk_over_plain": median_ratio(encoded, plain),
    }


def main(argv: Sequence[str]) -> None:
    """Measure, print a table, write the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_output_arguments(parser)
    parser.add_argument("--slots", type=int, default=8)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)  # simulators need the cores
    runner = PI0LiberoRunner(
        load_policy("builtin"), SUITE, num_parallel_envs=arguments.slots, config=TrainConfig()
    )
    with runner:
        result = compare(runner, *((16, 2) if arguments.quick else (48, 7)))
    seconds = result["seconds"]
    rows = [[name, statistics.median(values), min(values)] for name, values in seconds.items()]
    print(table(("", "median s", "best s"), rows))
    print(f"rollout with videos / without: {result['with_videos_over_plain']:.3f}")
    write_json(arguments.json, result, is_quick=arguments.quick)


if __name__ == "__main__":
    main(sys.argv[1:])
