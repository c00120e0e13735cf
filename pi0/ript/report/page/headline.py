"""What came of a run, in one line per task: base against trained on the same held-out episodes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pi0.ript.config.load import to_plain
from pi0.ript.config.schema import TrainConfig
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.report.intervals import PairedChange, SuccessRate, paired_change, success_rate
from pi0.ript.report.page.run_files import Evaluation, RunFiles

ALL_TASKS = "all tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting that somebody chose, e.g. ``Setting(key="algo.lr", value="1.0e-05", default="2.0e-05")``."""

    key: str
    value: str
    default: str


def chosen_settings(config: TrainConfig) -> list[Setting]:
    """Return every setting whose value is not the default, in the order of the schema."""
    defaults = dict(_flat(to_plain(TrainConfig())))
    return [
        Setting(key=key, value=value, default=defaults[key])
        for key, value in _flat(to_plain(config))
        if value != defaults[key]
    ]


def asked(request: Mapping[str, object]) -> list[Setting]:
    """Return what a fine-tuning was asked for; its defaults depend on what is fine-tuned, so none are named."""
    return [Setting(key=key, value=plain(value), default="") for key, value in request.items()]


def run_facts(run: RunFiles) -> dict[str, object]:
    """Return what the headline says of a run besides its numbers."""
    config, request = run.config, run.request
    if not request:
        return {
            "steps": config.training.num_train_steps,
            "seed": config.training.seed,
            "objective": config.algo.objective,
            "policy": config.policy_path,
        }
    return {
        "steps": request.get("num_steps"),
        "seed": request.get("seed"),
        "objective": "flow matching on demonstrations",
        "policy": request.get("policy") or "new",
    }


def protocol_words(config: TrainConfig) -> str:
    """Return what held-out rates of a run must be read with: fixtures and step limit."""
    limit = config.evaluation.max_episode_length or config.task.max_episode_length
    fixtures = "drawn per episode" if config.task.fixtures == "per_episode" else "fixed"
    most = f"at most {limit} control steps" if isinstance(limit, int) else "the suite's step limit"
    return f"fixtures {fixtures}, {most}"


def card_lines(card: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the card of a policy as (name, value) for a human."""
    return [(name.replace("_", " "), plain(value)) for name, value in card.items()]


def plain(value: object) -> str:
    """Return a value as one writes it in YAML, large numbers with thousands separators."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value >= 100_000:
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(plain(entry) for entry in value) or "none"
    return "null" if value is None else str(value)


def _flat(data: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(data, Mapping):
        yield prefix, plain(data)
        return
    for key, value in data.items():
        yield from _flat(value, f"{prefix}.{key}" if prefix else str(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A task before and after training.

    Attributes:
        task: Its label, or ``all tasks``.
        base: Success before training.
        trained: Success in the newest evaluation; None while there is only one.
        change: The paired comparison of the two; None while there is only one.
        num_crashed: Episodes left out because the simulator crashed in either evaluation.
    """

    task: str
    base: SuccessRate
    trained: SuccessRate | None
    change: PairedChange | None
    num_crashed: int


def results(evaluations: Sequence[Evaluation]) -> list[Result]:
    """Return the result over all tasks first, then one per task where there are several."""
    if not evaluations or not evaluations[0].episodes:
        return []
    first, last = evaluations[0].episodes, evaluations[-1].episodes
    pairs = list(zip(first, last, strict=True))
    assert all(a.key == b.key for a, b in pairs), "evaluations of different episodes"
    tasks = list(dict.fromkeys(episode.task_label for episode in first))
    is_paired = len(evaluations) > 1
    rows = [] if len(tasks) == 1 else [_result(ALL_TASKS, pairs, is_paired=is_paired)]
    rows += [
        _result(task, [p for p in pairs if p[0].task_label == task], is_paired=is_paired)
        for task in tasks
    ]
    return [row for row in rows if row is not None]


def success_by_task(episodes: Iterable[EpisodeRecord]) -> dict[str, SuccessRate]:
    """Return the success rate per task without crashed episodes; over all tasks where several."""
    complete: dict[str, list[EpisodeRecord]] = {}
    for episode in episodes:
        if episode.is_complete:
            complete.setdefault(episode.task_label, []).append(episode)
    if len(complete) > 1:
        complete[ALL_TASKS] = [one for several in complete.values() for one in several]
    return {task: _rate(several) for task, several in complete.items()}


def _rate(episodes: Sequence[EpisodeRecord]) -> SuccessRate:
    return success_rate([e.is_success for e in episodes], [e.state_key for e in episodes])


def _result(
    task: str, pairs: Sequence[tuple[EpisodeRecord, EpisodeRecord]], *, is_paired: bool
) -> Result | None:
    complete = [pair for pair in pairs if all(e.is_complete for e in pair)]
    if not complete:
        return None
    base, trained = ([pair[i] for pair in complete] for i in (0, 1))
    before, after = ([episode.is_success for episode in side] for side in (base, trained))
    states = [episode.state_key for episode in base]
    return Result(
        task=task,
        base=_rate(base),
        trained=_rate(trained) if is_paired else None,
        change=paired_change(before, after, states) if is_paired else None,
        num_crashed=len(pairs) - len(complete),
    )
