"""Measure a policy on initial states it never practised on, deterministically (ODE)."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass

from pi0.ript.env.suites import make_initial_state, split, step_limit, task_language
from pi0.ript.seeding import derive_seed
from pi0.ript.types import Episode, EpisodeRequest

Source = Callable[[], EpisodeRequest | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRecord:
    """One evaluated episode, in plain values, so that two policies can be compared episode by episode."""

    suite: str
    task_id: int
    task: str
    state_index: int
    seed: int
    outcome: str
    num_steps: int
    num_decisions: int

    @property
    def task_label(self) -> str:
        """Return e.g. ``libero_goal/7 turn on the stove``."""
        return f"{self.suite}/{self.task_id} {self.task}"

    @property
    def is_complete(self) -> bool:
        """Return whether the simulator lasted to the end of the episode."""
        return self.outcome != "crashed"

    @property
    def is_success(self) -> bool:
        """Return whether the task was solved."""
        return self.outcome == "success"

    def to_dict(self) -> dict[str, str | int]:
        """Return a JSON-ready view."""
        return asdict(self)


def evaluation_requests(
    tasks: Sequence[tuple[str, int]],
    *,
    episodes_per_task: int,
    held_out: int,
    fixture_seed: int,
    seed: int,
    max_episode_length: int | None,
    num_filmed: int = 0,
) -> list[EpisodeRequest]:
    """Return the fixed list of episodes: it depends on nothing but these arguments."""
    _, indices = split(held_out)
    return [
        EpisodeRequest(
            initial_state=make_initial_state(
                suite, task_id, indices[n % len(indices)], fixture_seed
            ),
            seed=derive_seed(seed, "evaluation", suite, task_id, n),
            max_steps=max_episode_length or step_limit(suite),
            group=task_position,
            rollout=n,
            is_filmed=n < num_filmed,
        )
        for task_position, (suite, task_id) in enumerate(tasks)
        for n in range(episodes_per_task)
    ]


def evaluate(
    run: Callable[[Source], Generator[Episode, None, None]],
    requests: Sequence[EpisodeRequest],
    on_episode: Callable[[Episode], None],
) -> list[EpisodeRecord]:
    """Run every requested episode and return the records in request order.

    An episode that could not be completed is recorded as ``crashed``, which is no failure.
    """
    waiting = iter(requests)
    records: dict[tuple[int, int], EpisodeRecord] = {}
    with closing(run(lambda: next(waiting, None))) as episodes:
        for episode in episodes:
            records[episode.request.group, episode.request.rollout] = _record(episode)
            on_episode(episode)
    return [records[request.group, request.rollout] for request in requests]


def success_by_task(records: Sequence[EpisodeRecord]) -> dict[str, list[bool]]:
    """Return the outcomes per task, without the crashed episodes.

    Raises:
        RuntimeError: No episode of a task could be completed.
    """
    outcomes: dict[str, list[bool]] = {record.task_label: [] for record in records}
    for record in records:
        if record.is_complete:
            outcomes[record.task_label].append(record.is_success)
    for task, results in outcomes.items():
        if not results:
            raise RuntimeError(f"no episode of {task} could be completed; see the warnings above")
    return outcomes


def _record(episode: Episode) -> EpisodeRecord:
    state = episode.request.initial_state
    return EpisodeRecord(
        suite=state.suite,
        task_id=state.task_id,
        task=task_language(state.suite, state.task_id),
        state_index=state.index,
        seed=episode.request.seed,
        outcome=episode.outcome,
        num_steps=episode.num_steps,
        num_decisions=len(episode.decisions),
    )
