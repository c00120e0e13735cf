"""A whole run: measure, train, measure again on the same episodes, write down what came of it."""

import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pi0.ript.config.command_line import program_name
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.episodes import complete_by_task
from pi0.ript.report.page.render import write_report
from pi0.ript.report.summary import TaskOutcomes, write_summary
from pi0.ript.train.evaluator import first_text
from pi0.ript.train.nan_guard import StepNotFiniteError
from pi0.ript.train.signals import Interruption
from pi0.ript.train.trainer import Trainer

logger = logging.getLogger(__name__)


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
        step = trainer.checkpoints.save_interrupted()
        raise Interruption(
            stop.number,
            f"{step} steps are saved, go on with: {program_name(sys.argv[0])} --resume {run_dir}",
        ) from None
    except BaseException:
        with suppress(OSError, StepNotFiniteError):  # the first error says more
            trainer.checkpoints.save_interrupted()
        raise


def _measure_and_train(trainer: Trainer, run_dir: Path) -> None:
    parts, summary = trainer.parts, run_dir / "summary.txt"
    is_writer = parts.ranks.rank == 0
    if trainer.progress.is_done and first_text(parts.ranks, str(summary.is_file())) == str(True):
        if is_writer:
            logger.info("%s is complete\n%s", run_dir, summary.read_text())
        return
    trainer.checkpoints.save_beginning()
    base = trainer.evaluate(0)
    trainer.train()
    trained = trainer.evaluate_last()
    if not is_writer:
        return
    outcomes = paired_outcomes(base, trained)
    card = parts.evaluator.policy_card
    protocol = parts.evaluator.protocol
    text = write_summary(run_dir, outcomes, parts.stopwatch.seconds, card, protocol)
    logger.info("summary of %s\n%s", run_dir, text)
    logger.info("report: %s", write_report([run_dir]))


def paired_outcomes(
    base: Sequence[EpisodeRecord], trained: Sequence[EpisodeRecord]
) -> list[TaskOutcomes]:
    """Return the outcomes of both policies per task, episode by episode.

    Episodes that crashed for either policy are left out of both.
    """
    if [record.key for record in base] != [record.key for record in trained]:
        raise ValueError("the evaluations before and after training are of different episodes")
    pairs = [(a, b) for a, b in zip(base, trained, strict=True) if a.is_complete and b.is_complete]
    if len(pairs) < len(base):
        logger.warning("%d of %d held-out episodes crashed", len(base) - len(pairs), len(base))
    before = complete_by_task([first for first, _ in pairs])
    after = complete_by_task([second for _, second in pairs])
    return [
        TaskOutcomes(
            task=task,
            states=tuple(record.state_key for record in some),
            base=tuple(record.is_success for record in some),
            trained=tuple(record.is_success for record in after[task]),
        )
        for task, some in before.items()
    ]
