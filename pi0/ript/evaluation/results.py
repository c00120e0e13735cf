"""Records of episodes -> success per task, suite and altogether, alone or against another policy."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from pi0.ript.episode_record import EpisodeKey, EpisodeRecord
from pi0.ript.evaluation.log import LOG_NAME, Settings, differing
from pi0.ript.report.evaluation_report import (
    RESULTS_NAME,
    ChangeRow,
    Comparison,
    EvaluationReport,
    RateRow,
)
from pi0.ript.report.intervals import SuccessRate, holm, paired_change, success_rate

ALL = "all"
# What a comparison of policies is about.
OF_THE_POLICY = ("policy", "weights", "policy_card", "denoise_steps")


def make_report(
    settings: Settings, records: Sequence[EpisodeRecord], comparison: Comparison | None
) -> EvaluationReport:
    """Return the report of an evaluation."""
    return EvaluationReport(
        settings=settings,
        rows=[_rate_row(name, some) for name, some in groups(records).items()],
        episodes=[record.to_dict() for record in records],
        comparison=comparison,
    )


def groups(records: Sequence[EpisodeRecord]) -> dict[str, list[EpisodeRecord]]:
    """Return the records per task, per suite with several tasks, and all if there are several suites."""
    tasks: dict[str, list[EpisodeRecord]] = {}
    suites: dict[str, list[EpisodeRecord]] = {}
    for record in records:
        tasks.setdefault(record.task_label, []).append(record)
        suites.setdefault(record.suite, []).append(record)
    several = {suite: some for suite, some in suites.items() if len({r.task_id for r in some}) > 1}
    return tasks | several | ({ALL: list(records)} if len(suites) > 1 else {})


def compare(
    settings: Settings,
    records: Sequence[EpisodeRecord],
    other_name: str,
    other_settings: Settings,
    other_records: Sequence[EpisodeRecord],
) -> Comparison:
    """Return this policy's episodes against the other's with the same initial states and seeds.

    Raises:
        ValueError: The two have no completed episode in common.
    """
    partners = {record.key: record for record in other_records if record.is_complete}
    paired = [record for record in records if record.is_complete and record.key in partners]
    require_common(
        settings, (record.key for record in paired), other_name, other_settings, other_records
    )
    rows = [
        _change_row(name, [partners[r.key] for r in some], some)
        for name, some in groups(paired).items()
    ]
    return Comparison(
        other=other_name,
        rows=_adjusted(rows, {record.task_label for record in paired}),
        num_unpaired=len(records) - len(paired),
        differences=_differences(settings, other_settings),
    )


def _adjusted(rows: Sequence[ChangeRow], tasks: Container[str]) -> list[ChangeRow]:
    """Return the rows with p-values adjusted for the number of tasks, where there are several."""
    tests = [row for row in rows if row.name in tasks]
    if len(tests) < 2:
        return list(rows)
    by_name = dict(
        zip((row.name for row in tests), holm([row.change.p_value for row in tests]), strict=True)
    )
    return [replace(row, holm_p=by_name.get(row.name)) for row in rows]


def require_common(
    settings: Settings,
    keys: Iterable[EpisodeKey],
    other_name: str,
    other_settings: Settings,
    other_records: Sequence[EpisodeRecord],
) -> None:
    """Refuse a comparison of episodes, done or still to be run, with results that have none of them.

    Raises:
        ValueError: The two have no completed episode in common; names what they differ in.
    """
    if set(keys) & {record.key for record in other_records if record.is_complete}:
        return
    differences = _differences(settings, other_settings)
    reason = f" ({'; '.join(differences)})" if differences else ""
    raise ValueError(
        f"--compare {other_name}: no episode in common{reason}; evaluate both with the same "
        "--suite, --tasks, --seed and --initial_states"
    )


def find_results(path: str) -> Path | None:
    """Return the log of episodes that a folder of results or a file in it means; None for a policy."""
    given = Path(path).expanduser()
    if given.name in (LOG_NAME, f"{RESULTS_NAME}.json") and given.is_file():
        given = given.parent
    log = given / LOG_NAME
    return log if log.is_file() else None


def _differences(settings: Settings, other_settings: Settings) -> list[str]:
    phrases = differing(_but_policy(other_settings), _but_policy(settings))
    return [phrase for phrase in phrases if not phrase.startswith("tasks ")]


def _but_policy(settings: Settings) -> Settings:
    return {name: value for name, value in settings.items() if name not in OF_THE_POLICY}


def _rate_row(name: str, records: Sequence[EpisodeRecord]) -> RateRow:
    complete = [record for record in records if record.is_complete]
    return RateRow(
        name=name,
        rate=_rate(complete) if complete else None,
        num_crashed=len(records) - len(complete),
    )


def _rate(records: Sequence[EpisodeRecord]) -> SuccessRate:
    return success_rate([r.is_success for r in records], [r.state_key for r in records])


def _change_row(
    name: str, before: Sequence[EpisodeRecord], after: Sequence[EpisodeRecord]
) -> ChangeRow:
    other, this = ([record.is_success for record in some] for some in (before, after))
    return ChangeRow(
        name=name,
        other=_rate(before),
        this=_rate(after),
        change=paired_change(other, this, [record.state_key for record in after]),
    )
