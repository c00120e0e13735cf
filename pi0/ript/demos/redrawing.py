"""Held-out episodes of a run, drawn again: larger than the policy observed them, an image per control step."""

import logging
import tempfile
from itertools import groupby
from pathlib import Path

from pi0.records import ObservationSpec
from pi0.ript.datasets.recorded import take_recorded
from pi0.ript.demos.rollout_replayer import replay_all
from pi0.ript.episode_record import EpisodeKey, EpisodeRecord
from pi0.ript.evaluation.episodes import evaluation_path
from pi0.ript.report.action_log import PATTERN, StoredRollout, read_rollouts
from pi0.ript.report.page.run_files import RunFiles, read_run
from pi0.ript.report.video import (
    REDRAWN,
    STEPS_PER_S,
    side_by_side,
    video_name,
    write_video,
)

logger = logging.getLogger(__name__)

Chosen = dict[tuple[int, EpisodeKey], EpisodeRecord]
"""Episodes by training step and key."""


def choose_episodes(run: RunFiles) -> Chosen:
    """Return of every task a success and a failure of the last evaluation, and the same episodes of the first.

    Those that were failures and became successes, or the other way round, are taken before others.
    """
    first, last = run.evaluations[0], run.evaluations[-1]
    chosen: Chosen = {}
    seen: set[tuple[str, str]] = set()
    pairs = list(zip(first.episodes, last.episodes, strict=True))
    for before, after in sorted(pairs, key=lambda pair: pair[0].outcome == pair[1].outcome):
        kind = (after.task_label, after.outcome)
        if after.is_complete and before.is_complete and kind not in seen:
            seen.add(kind)
            chosen[first.step, before.key] = before
            chosen[last.step, after.key] = after
    return chosen


def redraw(run_dir: Path, size: int, num_workers: int) -> int:
    """Write videos of ``size`` pixels of the chosen episodes and return how many; the report shows them.

    Tasks are drawn one after another, so that the images of one lie on the disk at a time.

    Raises:
        ValueError: The run has no evaluation, or an episode did not end as it did then.
        FileNotFoundError: The run kept no actions.
        ChildProcessError: A simulator process ended early.
    """
    run = read_run(run_dir)
    if not run.evaluations:
        raise ValueError(
            f"{run_dir} has no evaluation to draw again; train with evaluation.rollouts_per_task above 0"
        )
    chosen, source = choose_episodes(run), evaluation_path(run_dir, 0).parent
    rollouts = read_rollouts(source) if any(source.glob(PATTERN)) else []
    stored = [
        (position, rollout)
        for position, rollout in enumerate(rollouts)
        if (rollout.step, rollout.key) in chosen
    ]
    if len(stored) < len(chosen):
        raise FileNotFoundError(
            f"{source} holds the actions of {len(stored)} of {len(chosen)} episodes to draw; runs of earlier versions kept "
            "none, those of this one keep the first and the newest evaluation's"
        )
    cameras = run.evaluations[-1].policy["cameras"]
    assert isinstance(cameras, list), f"cameras of the policy card: {cameras!r}"
    spec = ObservationSpec(cameras=tuple(cameras), height=size, width=size, quality="fast")
    for (suite, task_id), some in groupby(
        sorted(stored, key=_by_task), key=lambda each: _by_task(each)[:2]
    ):
        of_task = dict(sorted(some))
        logger.info("%s/%d: drawing %d episodes", suite, task_id, len(of_task))
        with tempfile.TemporaryDirectory() as folder:
            replay_all(source, list(of_task), spec, Path(folder), num_workers)
            for rollout, episode in zip(of_task.values(), take_recorded(Path(folder)), strict=True):
                record = chosen[rollout.step, rollout.key]
                path = run.video_folder / REDRAWN / f"step_{rollout.step}" / video_name(record)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_video(path, map(side_by_side, episode.images), STEPS_PER_S)
    return len(stored)


def _by_task(stored: tuple[int, StoredRollout]) -> tuple[str, int, int]:
    position, rollout = stored
    return rollout.suite, rollout.task_id, position
