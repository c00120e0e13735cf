"""A whole run: measure, practise, measure again on the same episodes, say what came of it."""

import json
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from pi0.ript.config.command_line import program_name
from pi0.ript.evaluation.episodes import (
    evaluation_path,
    read_evaluation,
    set_aside,
    success_by_task,
    write_evaluation,
)
from pi0.ript.interfaces import Ranks
from pi0.ript.report.page.render import write_report
from pi0.ript.report.summary import TaskOutcomes, write_summary
from pi0.ript.train.nan_guard import StepNotFiniteError
from pi0.ript.train.signals import Interruption
from pi0.ript.train.trainer import Trainer
from pi0.ript.types import EpisodeRecord

logger = logging.getLogger(__name__)


def is_writer(ranks: Ranks) -> bool:
    """Return whether this rank writes the run directory."""
    return ranks.rank == 0


def first_said(ranks: Ranks, text: str) -> str:
    """Return the text of rank 0; all ranks meet here."""
    return ranks.gather_text(text)[0]


def agree(ranks: Ranks, *, is_so: bool) -> bool:
    """Return what rank 0 says; all ranks meet here."""
    return first_said(ranks, str(is_so)) == str(True)


def train_run(trainer: Trainer, run_dir: Path) -> None:
    """Train to the end; what a resumed run has on disk already is neither repeated nor overwritten.

    Only rank 0 reads and writes the run directory; the others do as it says.
    Whatever ends it early leaves a checkpoint of the last finished step, so that a resumed run has the
    numbers that this one would have had.

    Raises:
        Interruption: A signal came; says how to go on.
    """
    try:
        _measure_and_train(trainer, run_dir)
    except Interruption as stop:
        step = trainer.save_finished()
        raise Interruption(
            stop.number,
            f"{step} steps are saved, go on with: {program_name(sys.argv[0])} --resume {run_dir}",
        ) from None
    except BaseException:
        with suppress(OSError, StepNotFiniteError):  # the first error says more
            trainer.save_finished()
        raise


def _measure_and_train(trainer: Trainer, run_dir: Path) -> None:
    summary = run_dir / "summary.txt"
    if trainer.is_finished and agree(trainer.ranks, is_so=summary.is_file()):
        if is_writer(trainer.ranks):
            logger.info("%s is complete\n%s", run_dir, summary.read_text())
        return
    trainer.save_beginning()
    base = evaluation(trainer, run_dir, step=0)
    trainer.train(partial(_between_steps, trainer, run_dir))
    trained = _last_evaluation(trainer, run_dir)
    if not is_writer(trainer.ranks):
        return
    outcomes = paired_outcomes(base, trained)
    text = write_summary(run_dir, outcomes, trainer.stopwatch.seconds, trainer.policy_card)
    logger.info("summary of %s\n%s", run_dir, text)
    logger.info("report: %s", write_report([run_dir]))


def evaluation(trainer: Trainer, run_dir: Path, step: int) -> list[EpisodeRecord]:
    """Return the held-out records after ``step``, from rank 0's disk or by running the episodes.

    Raises:
        ValueError: They are neither on disk nor to be had, because the policy has moved on.
    """
    path = evaluation_path(run_dir, step)
    if agree(trainer.ranks, is_so=path.is_file()):
        own = read_evaluation(path) if is_writer(trainer.ranks) else []
        told = json.loads(
            first_said(trainer.ranks, json.dumps([record.to_dict() for record in own]))
        )
        return [EpisodeRecord(**record) for record in told]
    if trainer.step != step:
        raise ValueError(
            f"{path} is missing and the policy of step {step} is gone; put the file back, or start "
            "a new run"
        )
    records = trainer.evaluate()
    if is_writer(trainer.ranks):
        write_evaluation(path, trainer.policy_card, records)
    return records


def _between_steps(trainer: Trainer, run_dir: Path) -> None:
    """Evaluate if it is time, and see whether practice still helps."""
    if trainer.is_evaluation_due:
        records = evaluation(trainer, run_dir, trainer.step)
        if _is_worse(trainer, records):
            trainer.go_back()
    _judge_practice(trainer)


def _last_evaluation(trainer: Trainer, run_dir: Path) -> list[EpisodeRecord]:
    """See whether the last step helped; return the held-out records of the policy that is kept."""
    _judge_practice(trainer)
    records = evaluation(trainer, run_dir, trainer.step)
    if not _is_worse(trainer, records):
        return records
    # First, so that a run killed in between never takes these records for those of the policy put back.
    if is_writer(trainer.ranks):
        set_aside(evaluation_path(run_dir, trainer.step))
    trainer.go_back()
    return evaluation(trainer, run_dir, trainer.step)


def _judge_practice(trainer: Trainer) -> None:
    if trainer.recent_success is not None:
        # Raises if at all: success in practice stops runs and puts nothing back.
        trainer.has_regressed("practice", trainer.recent_success)


def _is_worse(trainer: Trainer, records: Sequence[EpisodeRecord]) -> bool:
    complete = [record.is_success for record in records if record.is_complete]
    # Where every episode crashed nothing is known of the policy.
    return bool(complete) and trainer.has_regressed("held_out", sum(complete) / len(complete))


def paired_outcomes(
    base: Sequence[EpisodeRecord], trained: Sequence[EpisodeRecord]
) -> list[TaskOutcomes]:
    """Return the outcomes of both policies per task, episode by episode.

    Episodes that crashed for either policy are left out of both.
    """
    if [record.key for record in base] != [record.key for record in trained]:
        raise ValueError("the evaluations before and after practice are of different episodes")
    pairs = [(a, b) for a, b in zip(base, trained, strict=True) if a.is_complete and b.is_complete]
    if len(pairs) < len(base):
        logger.warning("%d of %d held-out episodes crashed", len(base) - len(pairs), len(base))
    before = success_by_task([first for first, _ in pairs])
    after = success_by_task([second for _, second in pairs])
    return [
        TaskOutcomes(task=task, base=tuple(before[task]), trained=tuple(after[task]))
        for task in before
    ]
