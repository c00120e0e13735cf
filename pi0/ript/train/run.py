"""A whole run: measure, practise, measure again on the same episodes, say what came of it."""

import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pi0.ript.atomic import write_atomically
from pi0.ript.report.page.render import write_report
from pi0.ript.report.summary import TaskOutcomes, write_summary
from pi0.ript.train.evaluate import EpisodeRecord, success_by_task
from pi0.ript.train.stopping import Interruption
from pi0.ript.train.trainer import Trainer

logger = logging.getLogger(__name__)

TRAIN_PROGRAM = "python pi0/ript/scripts/train_ript_pi0.py"


def train_run(trainer: Trainer, run_dir: Path) -> None:
    """Train to the end; what a resumed run has on disk already is neither repeated nor overwritten.

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
            f"{step} steps are saved, go on with: {TRAIN_PROGRAM} --resume {run_dir}",
        ) from None
    except BaseException:
        with suppress(OSError):  # the first error says more
            trainer.save_finished()
        raise


def _measure_and_train(trainer: Trainer, run_dir: Path) -> None:
    summary = run_dir / "summary.txt"
    if trainer.is_finished and summary.is_file():
        logger.info("%s is complete\n%s", run_dir, summary.read_text())
        return
    trainer.save_beginning()
    base = evaluation(trainer, run_dir, step=0)
    trainer.train()
    trained = evaluation(trainer, run_dir, trainer.step)
    outcomes = paired_outcomes(base, trained)
    text = write_summary(run_dir, outcomes, trainer.stopwatch.seconds, trainer.policy_card)
    logger.info("summary of %s\n%s", run_dir, text)
    logger.info("report: %s", write_report([run_dir]))


def evaluation(trainer: Trainer, run_dir: Path, step: int) -> list[EpisodeRecord]:
    """Return the held-out records after ``step``, from disk or by running the episodes."""
    path = run_dir / "evaluations" / f"step_{step}.json"
    if path.is_file():
        return [EpisodeRecord(**record) for record in json.loads(path.read_text())["episodes"]]
    assert trainer.step == step, f"the policy stands at step {trainer.step}, not {step}"
    records = trainer.evaluate()
    path.parent.mkdir(exist_ok=True)
    content = {
        "policy": trainer.policy_card,
        "episodes": [record.repeatable() for record in records],
    }
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    return records


def paired_outcomes(
    base: Sequence[EpisodeRecord], trained: Sequence[EpisodeRecord]
) -> list[TaskOutcomes]:
    """Return the outcomes of both policies per task, episode by episode.

    Episodes that crashed for either policy are left out of both.
    """
    assert [record.key for record in base] == [record.key for record in trained]
    pairs = [(a, b) for a, b in zip(base, trained, strict=True) if a.is_complete and b.is_complete]
    if len(pairs) < len(base):
        logger.warning("%d of %d held-out episodes crashed", len(base) - len(pairs), len(base))
    before = success_by_task([first for first, _ in pairs])
    after = success_by_task([second for _, second in pairs])
    return [
        TaskOutcomes(task=task, base=tuple(before[task]), trained=tuple(after[task]))
        for task in before
    ]
