"""Measure a policy on initial states that it was never trained on, deterministically (ODE).

``evaluations/step_<n>.json`` holds the held-out episodes of a run, with a checksum of their own.
"""

import hashlib
import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from pi0.files import write_atomically
from pi0.ript.config.schema import TrainConfig
from pi0.ript.engine.ranks import SINGLE_PROCESS
from pi0.ript.env.initial_states import make_initial_state, split
from pi0.ript.env.suites import step_limit
from pi0.ript.episode_record import EpisodeKey, EpisodeRecord
from pi0.ript.interfaces import Ranks, StepProtocol
from pi0.ript.packed_frames import VideoRate
from pi0.ript.seeding import derive_seed, held_out_fixtures
from pi0.ript.types import Episode, EpisodeRequest

Source = Callable[[], EpisodeRequest | None]
_REMEDY = "put back the file as the run wrote it, or start a new run"


def evaluation_requests(
    tasks: Sequence[tuple[str, int]],
    *,
    episodes_per_task: int,
    held_out: int,
    fixture_seed: int | None,
    seed: int,
    max_episode_length: int | None,
    protocol: StepProtocol,
    num_recorded: int = 0,
    video_rate: VideoRate = "decisions",
) -> list[EpisodeRequest]:
    """Return the fixed list of episodes: it depends on nothing but these arguments.

    Args:
        tasks: (suite, task number) of every task; their order changes no episode.
        episodes_per_task: Episodes of each; they walk through the initial states in order.
        held_out: The last n of LIBERO's 50 initial states are used; 50 means all of them.
        fixture_seed: Seeds the poses of fixtures in all episodes; None draws a held-out seed for each.
        seed: Every random draw of an episode derives from it and the episode's own name.
        max_episode_length: Control steps per episode; None takes the suite's limit in the protocol.
        protocol: Of the policy.
        num_recorded: Episodes per task that are recorded as videos, the first ones.
        video_rate: Which frames the videos have.
    """
    _, indices = split(held_out)
    return [
        EpisodeRequest(
            initial_state=make_initial_state(
                suite,
                task_id,
                indices[n % len(indices)],
                held_out_fixtures(seed, suite, task_id, n)
                if fixture_seed is None
                else fixture_seed,
            ),
            seed=derive_seed(seed, "evaluation", suite, task_id, n),
            max_steps=step_limit(suite, protocol, max_episode_length),
            group=task_position,
            rollout=n,
            record_video=n < num_recorded,
            video_rate=video_rate,
        )
        for task_position, (suite, task_id) in enumerate(tasks)
        for n in range(episodes_per_task)
    ]


def requests_of_run(
    config: TrainConfig, tasks: Sequence[tuple[str, int]], protocol: StepProtocol
) -> list[EpisodeRequest]:
    """Return the held-out episodes of a training run, the same ones at every step."""
    return evaluation_requests(
        tasks,
        episodes_per_task=config.evaluation.rollouts_per_task,
        held_out=config.task.num_held_out_states,
        fixture_seed=config.task.shared_fixture_seed,
        seed=config.training.seed,
        max_episode_length=_limit_of_run(config),
        protocol=protocol,
        num_recorded=config.evaluation.save_videos,
        video_rate=config.video.rate,
    )


def protocol_text(config: TrainConfig, requests: Sequence[EpisodeRequest]) -> str:
    """Return what rates of these episodes must be read with: states, fixtures and step limits."""
    fixtures = "drawn per episode" if config.task.fixtures == "per_episode" else "fixed"
    limits = " or ".join(str(limit) for limit in sorted({r.max_steps for r in requests}))
    return (
        f"{config.task.num_held_out_states} held-out states per task, fixtures {fixtures}, at most "
        f"{limits} control steps"
    )


def _limit_of_run(config: TrainConfig) -> int | None:
    chosen = config.evaluation.max_episode_length
    if chosen is None:
        return config.task.max_episode_length
    return None if chosen == "suite" else chosen


def evaluate(
    run: Callable[[Source], Generator[Episode, None, None]],
    requests: Sequence[EpisodeRequest],
    on_episode: Callable[[Episode], None],
    ranks: Ranks = SINGLE_PROCESS,
) -> list[EpisodeRecord]:
    """Run every requested episode and return the records in request order.

    Collective: every rank runs its share of the episodes and returns the records of all.
    An episode that could not be completed is recorded as ``crashed``, which is no failure.
    """
    own = iter(requests[ranks.rank :: ranks.world_size])
    records: list[dict[str, str | int | float]] = []
    with closing(run(lambda: next(own, None))) as episodes:
        for episode in episodes:
            records.append(EpisodeRecord.of(episode).to_dict())
            on_episode(episode)
    gathered = [json.loads(text) for text in ranks.gather_text(json.dumps(records))]
    found = {r.key: r for some in gathered for r in (EpisodeRecord(**fields) for fields in some)}
    return [found[request_key(request)] for request in requests]


def request_key(request: EpisodeRequest) -> EpisodeKey:
    """Return the key that the record of this episode will have."""
    state = request.initial_state
    return state.suite, state.task_id, state.index, state.fixture_seed, request.seed


def complete_by_task(records: Sequence[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Return the records per task, without the crashed episodes.

    Raises:
        RuntimeError: No episode of a task could be completed.
    """
    complete: dict[str, list[EpisodeRecord]] = {record.task_label: [] for record in records}
    for record in records:
        if record.is_complete:
            complete[record.task_label].append(record)
    for task, some in complete.items():
        if not some:
            raise RuntimeError(f"no episode of {task} could be completed; see the warnings above")
    return complete


def evaluation_path(run_dir: Path, step: int) -> Path:
    """Return where the evaluation after ``step`` is kept."""
    return run_dir / "evaluations" / f"step_{step}.json"


def drop_evaluations_after(run_dir: Path, step: int) -> None:
    """Delete the evaluations of later steps, which a run that goes on after ``step`` takes anew.

    Elsewhere than on a CPU, or with other ranks, their policies may not come again bit for bit.
    """
    for path in evaluation_path(run_dir, 0).parent.glob("step_*.json"):
        number = path.stem.removeprefix("step_")
        if number.isdecimal() and int(number) > step:
            path.unlink()


def write_evaluation(
    path: Path, policy: Mapping[str, object], records: Sequence[EpisodeRecord]
) -> None:
    """Write the records and the card of the policy that they depend on."""
    path.parent.mkdir(exist_ok=True)
    content = {"policy": dict(policy), "episodes": [record.repeatable() for record in records]}
    text = json.dumps(content | {"sha256": _digest(content)}, indent=1)
    write_atomically(path, text + "\n")


def read_evaluation(path: Path) -> list[EpisodeRecord]:
    """Return the records as they were written.

    Raises:
        ValueError: The file holds anything else.
    """
    try:
        content = json.loads(path.read_text())
        digest = content.pop("sha256")
        records = [EpisodeRecord(**record) for record in content["episodes"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no evaluation of a run ({reason}); {_REMEDY}") from None
    if digest != _digest(content):
        raise ValueError(f"{path} does not hold what was written; {_REMEDY}")
    return records


def set_aside(path: Path) -> None:
    """Keep an evaluation of a policy that the run does not keep, beside those of the run."""
    path.replace(path.with_name(f"regressed_{path.name}"))


def _digest(content: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
