"""Re-play stored actions and draw every control step: ``python start.py pi0.ript.demos.rollout_replayer JSON``.

Physics repeat bit for bit, so an episode that ends in another way was recorded with another simulator.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from pi0.records import ObservationSpec
from pi0.ript.datasets.recorded import RecordedEpisode, save_recorded
from pi0.ript.demos.recorder import end_in_one_line, start_simulator
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.headless import require_rendering
from pi0.ript.report.action_log import StoredRollout, read_rollouts

logger = logging.getLogger(__name__)


def replay_all(
    source: Path,
    positions: Sequence[int],
    spec: ObservationSpec,
    folder: Path,
    num_workers: int,
) -> None:
    """Re-play chosen rollouts in processes of their own; ``folder`` receives a file per episode.

    Args:
        source: Run or evaluation that saved them.
        positions: Of the rollouts in ``read_rollouts(source)``.
        spec: What is drawn.
        folder: See ``datasets.recorded``.
        num_workers: Processes.

    Raises:
        ChildProcessError: A process ended early; what it wrote says why.
    """
    shares = [list(positions[n::num_workers]) for n in range(num_workers)]
    processes = [
        start_simulator(
            __name__,
            {
                "source": str(source.absolute()),
                "positions": share,
                "spec": asdict(spec),
                "folder": str(folder.absolute()),
            },
        )
        for share in shares
        if share
    ]
    try:
        for process in processes:
            if process.wait() != 0:
                raise ChildProcessError(
                    f"re-playing {source} ended with status {process.returncode}; see the last line above"
                )
    finally:
        for process in processes:
            process.kill()


def replay(scene: Any, rollout: StoredRollout) -> RecordedEpisode:
    """Return an episode with what was observed before every action.

    Raises:
        ValueError: It did not end as it did when it was stored.
    """
    state = make_initial_state(
        rollout.suite, rollout.task_id, rollout.state_index, rollout.fixture_seed
    )
    observations, is_success, last = [scene.restore(0, state)], False, len(rollout.actions) - 1
    for number, action in enumerate(rollout.actions):
        result = scene.execute(0, action[None], observe=number < last)
        is_success = result.is_success
        if is_success or number == last:
            break
        observations.append(result.observation)
    if (len(observations), is_success) != (len(rollout.actions), rollout.is_success):
        raise ValueError(
            f"{rollout.suite}/{rollout.task_id}, state {rollout.state_index}, seed {rollout.seed}: stored as "
            f"{_ending(len(rollout.actions), rollout.is_success)}, re-played as {_ending(len(observations), is_success)}; "
            "re-play with the versions that it was recorded with (launches.jsonl, results.json)"
        )
    return RecordedEpisode(
        suite=rollout.suite,
        task_id=rollout.task_id,
        task=rollout.task,
        state_index=rollout.state_index,
        fixture_seed=rollout.fixture_seed,
        seed=rollout.seed,
        is_success=is_success,
        images=np.stack([observation.images for observation in observations]),
        proprio=np.stack([observation.proprio for observation in observations]),
        actions=rollout.actions,
    )


def _ending(num_steps: int, is_success: bool) -> str:  # noqa: FBT001
    return f"{'success' if is_success else 'failure'} after {num_steps} control steps"


def main(argv: Sequence[str]) -> None:
    """Re-play the rollouts that the JSON names, task by task."""
    require_rendering()
    from pi0.ript.env.libero.scene import Scene  # noqa: PLC0415 - only where rendering works

    job = json.loads(argv[0])
    spec = ObservationSpec(**job["spec"] | {"cameras": tuple(job["spec"]["cameras"])})
    rollouts = read_rollouts(Path(job["source"]))
    mine = [(position, rollouts[position]) for position in job["positions"]]
    tasks = dict.fromkeys((r.suite, r.task_id, r.settling_steps) for _, r in mine)
    for suite, task_id, settling in tasks:
        scene = Scene(suite, task_id, spec, num_slots=1, num_steps_wait=settling)
        try:
            for position, rollout in mine:
                if (rollout.suite, rollout.task_id, rollout.settling_steps) == (
                    suite,
                    task_id,
                    settling,
                ):
                    path = Path(job["folder"]) / f"{position:07d}.safetensors"
                    save_recorded(replay(scene, rollout), path)
        finally:
            scene.close()


if __name__ == "__main__":
    end_in_one_line(main)
