"""Measure a policy on initial states it never practised on, deterministically (ODE)."""

from collections.abc import Callable, Iterator, Sequence
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
    run: Callable[[Source], Iterator[Episode]],
    requests: Sequence[EpisodeRequest],
    on_episode: Callable[[Episode], None],
) -> list[EpisodeRecord]:
    """Run every requested episode and return the records in request order.

    Raises:
        RuntimeError: If an episode could not be completed: a crash is an error, never a failure.
    """
    waiting = iter(requests)
    records: dict[tuple[int, int], EpisodeRecord] = {}
    for episode in run(lambda: next(waiting, None)):
        request = episode.request
        if episode.outcome == "crashed":
            raise RuntimeError(
                f"evaluation of {request.initial_state.suite} task {request.initial_state.task_id}, "
                f"state {request.initial_state.index}, could not be completed: {episode.error}"
            )
        records[request.group, request.rollout] = _record(episode)
        on_episode(episode)
    return [records[request.group, request.rollout] for request in requests]


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
