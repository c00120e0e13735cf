"""Two runs of the same seed compared: episodes lost, repeated and differing; metrics; weights."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pi0.ript.report.episode_log import EPISODES_NAME
from pi0.ript.report.jsonl import METRICS_NAME, complete_lines

WEIGHTS = ("pretrained_model/model.safetensors", "training_state/optimizer.safetensors")
# What may differ between equal runs: the clock, the machine, and how often simulators were replaced.
DISTURBED_PREFIXES = ("time/", "speed/", "memory/", "rollout/restart", "rollout/hangs")
DISTURBED_NAMES = ("rollout/num_retries",)

Key = tuple[int, int, int]
"""Step, group, rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a disturbed run did differently.

    Attributes:
        num_episodes: Episodes that the undisturbed run was trained on.
        lost_episodes: Those that the disturbed run does not have.
        repeated_episodes: Records of an episode beyond its first.
        differing_episodes: Those with another outcome, length or action, or that were not requested.
        differing_metrics: Steps with another metric.
        differing_weights: Files of the last checkpoint that are not equal bit for bit.
    """

    num_episodes: int
    lost_episodes: int
    repeated_episodes: int
    differing_episodes: int
    differing_metrics: int
    differing_weights: int


def compare_runs(disturbed: Path, undisturbed: Path, num_steps: int) -> Comparison:
    """Compare the first steps of two run directories."""
    records, reference = (_episodes(folder, num_steps) for folder in (disturbed, undisturbed))
    ours = {_key(record): record for record in records}
    theirs = {_key(record): record for record in reference}
    common = ours.keys() & theirs.keys()
    unrequested = ours.keys() - theirs.keys()
    return Comparison(
        num_episodes=len(theirs),
        lost_episodes=len(theirs.keys() - ours.keys()),
        repeated_episodes=sum(count - 1 for count in Counter(map(_key, records)).values()),
        differing_episodes=sum(ours[key] != theirs[key] for key in common) + len(unrequested),
        differing_metrics=_differing_metrics(disturbed, undisturbed, num_steps),
        differing_weights=sum(
            _checkpoint(disturbed, num_steps, name) != _checkpoint(undisturbed, num_steps, name)
            for name in WEIGHTS
        ),
    )


def read_steps(run_dir: Path, name: str, num_steps: int) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines up to a step."""
    records = [json.loads(line) for line in complete_lines(run_dir / name)]
    return [record for record in records if record["step"] <= num_steps]


def _episodes(run_dir: Path, num_steps: int) -> list[dict[str, Any]]:
    return read_steps(run_dir, EPISODES_NAME, num_steps)


def _key(record: Mapping[str, Any]) -> Key:
    return record["step"], record["group"], record["rollout"]


def _differing_metrics(disturbed: Path, undisturbed: Path, num_steps: int) -> int:
    ours, theirs = (
        {
            record["step"]: _comparable(record)
            for record in read_steps(folder, METRICS_NAME, num_steps)
        }
        for folder in (disturbed, undisturbed)
    )
    return sum(ours.get(step) != theirs.get(step) for step in ours.keys() | theirs.keys())


def _comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in record.items()
        if not name.startswith(DISTURBED_PREFIXES) and name not in DISTURBED_NAMES
    }


def _checkpoint(run_dir: Path, step: int, name: str) -> bytes:
    return (run_dir / "checkpoints" / str(step) / name).read_bytes()
