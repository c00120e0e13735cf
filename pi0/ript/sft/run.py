"""A fine-tuning with its directory: settings, metrics, checkpoints, report, and the policy at the end.

The directory:

sft.json                what was asked for
metrics.jsonl           one line per optimizer step; tensorboard/ holds the same
launches.jsonl          one line per start or resume
checkpoints/<step>/     pretrained_model/ (loads like any policy), training_state/
report.html             all of it on one page
*                       the policy itself, once it is finished
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch

from pi0.checkpoint import save_policy, save_trained
from pi0.files import write_atomically
from pi0.formats.base import Base
from pi0.formats.folder import POLICY_CARD
from pi0.formats.weight_files import weights_present
from pi0.model.lora import trained_tensors
from pi0.policy import Pi0Policy
from pi0.ript.engine.sharded_tensors import is_sharded
from pi0.ript.interfaces import Ranks
from pi0.ript.report.console import duration
from pi0.ript.report.jsonl import METRICS_NAME, JsonlReporter
from pi0.ript.report.launches import record_launch
from pi0.ript.report.page.render import write_report
from pi0.ript.report.reporters import Reporters, TensorBoardReporter
from pi0.ript.run_folder import CHECKPOINTS, SFT_NAME
from pi0.ript.sft.draws import Numbers
from pi0.ript.sft.settings import SftSettings
from pi0.ript.sft.trainer import Metrics, SftTrainer
from pi0.ript.train.checkpoints.folder import load_training_state
from pi0.ript.train.checkpoints.state import PolicySnapshot, TrainingState
from pi0.ript.train.checkpoints.store import save_checkpoint
from pi0.ript.train.signals import Interruption

logger = logging.getLogger(__name__)

LINE_EVERY_S = 10.0
Request = Mapping[str, object]


def new_directory(folder: Path, request: Request) -> None:
    """Write what was asked for into a directory that holds no run that could go on.

    Raises:
        ValueError: It holds one, or a policy.
    """
    path = folder / SFT_NAME
    if path.exists() and any((folder / CHECKPOINTS).glob("[0-9]*")):
        raise ValueError(
            f"{folder} holds a fine-tuning already; go on with it (ript sft --resume {folder}) or choose another --output_dir"
        )
    if (folder / POLICY_CARD).exists() or weights_present(folder):
        raise ValueError(
            f"{folder} holds a policy, which would be written over; choose another --output_dir"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(request, indent=2) + "\n")


def read_request(folder: Path) -> dict[str, object]:
    """Return what was asked for when the run in ``folder`` began.

    Raises:
        ValueError: It holds no run, or a damaged one.
    """
    path = folder / SFT_NAME
    if not path.is_file():
        raise ValueError(
            f"nothing to resume: {path} does not exist; give the --output_dir of a fine-tuning"
        )
    try:
        request = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path} is no JSON ({error}); begin anew in another --output_dir"
        ) from None
    if not isinstance(request, dict):
        raise ValueError(f"{path} must hold a JSON object; begin anew in another --output_dir")
    return request


def request_hash(request: Request) -> str:
    """Return what checkpoints are recognized by."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]


def restore(checkpoint: Path, request: Request) -> TrainingState:
    """Return the state of a checkpoint.

    Raises:
        ValueError: It is damaged, or of another run.
    """
    state = load_training_state(checkpoint)
    if state.config_hash != request_hash(request):
        raise ValueError(
            f"{checkpoint} is of a fine-tuning with other settings than {SFT_NAME} says; put the file back"
        )
    return state


def numbers_of(state: TrainingState) -> Numbers:
    """Return the state of the generator, which checkpoints keep among their counters."""
    return {name: int(value) for name, value in state.counters.items()}


class SftRun:
    """Writes down what a trainer does.

    Args:
        trainer: Takes the steps.
        policy: What it trains.
        base: The policy that was given, which checkpoints name; None for a new one.
        folder: The directory; only rank 0 writes.
        request: What was asked for.
        settings: When to save.
        ranks: The processes.
        dtype: Of a new policy's weights on disk, once it is finished.
    """

    def __init__(
        self,
        trainer: SftTrainer,
        policy: Pi0Policy,
        base: Base | None,
        folder: Path,
        request: Request,
        settings: SftSettings,
        ranks: Ranks,
        dtype: torch.dtype,
    ) -> None:
        self._trainer, self._policy, self._base, self._folder = trainer, policy, base, folder
        self._hash = request_hash(request)
        self._settings, self._ranks, self._dtype = settings, ranks, dtype
        self._saved_step: int | None = trainer.step or None

    def run(self) -> None:
        """Train to the end, save and report; whatever ends it early leaves a checkpoint.

        Raises:
            Interruption: A signal came; says how to go on.
        """
        is_writer, begun = self._ranks.rank == 0, self._trainer.step
        reporters = self._reporters(begun) if is_writer else Reporters([])
        if is_writer:
            record_launch(self._folder, begun, str(self._policy.device), driver={})
        log = ProgressLog(self._settings.num_steps, begun)

        def on_step(step: int, metrics: Metrics) -> None:
            shown = {
                **metrics,
                "speed/frames_per_s": self._settings.frames_per_step / metrics["time/update_s"],
            }
            reporters.log(step, shown)
            if is_writer:
                log(step, metrics)
            if self._settings.save_every and step % self._settings.save_every == 0:
                self._save()

        try:
            self._train(on_step)
        finally:
            reporters.close()
        self._finish()

    def _reporters(self, last_step: int) -> Reporters:
        return Reporters(
            [
                JsonlReporter(self._folder / METRICS_NAME, last_step=last_step),
                TensorBoardReporter(self._folder / "tensorboard", last_step=last_step),
            ]
        )

    def _train(self, on_step: Callable[[int, Metrics], None]) -> None:
        try:
            self._trainer.train(on_step)
        except Interruption as stop:
            self._save_interrupted()
            text = f"{self._saved_step or 0} steps are saved"
            if self._saved_step:
                text += f", go on with: ript sft --resume {self._folder}"
            raise Interruption(stop.number, text) from None
        except Exception:  # raised again: whatever ends it, steps that were taken are kept
            with suppress(OSError):  # the first error says more
                self._save_interrupted()
            raise

    def _finish(self) -> None:
        self._save()
        if self._ranks.rank != 0:
            return
        with self._trainer.averaged():
            self._save_policy()
        logger.info("saved %s", self._folder)
        logger.info("report: %s", write_report([self._folder]))

    def _save_policy(self) -> None:
        """Leave the finished policy beside the checkpoints: what was not trained in the types that it came in."""
        if self._base is None:
            save_policy(self._policy, self._folder, dtype=self._dtype)
            return
        trained = trained_tensors(self._policy.network.core)
        save_trained(self._policy, self._folder, trained, self._base, is_whole=True)

    def _save_interrupted(self) -> None:
        """Save what belongs to a step; not what is sharded, because writing that is a collective."""
        if not self._trainer.is_updating and not self._trainer.engine.needs_equal_passes:
            self._save()

    def _save(self) -> None:
        step = self._trainer.step
        if step in (self._saved_step, 0):
            return
        engine = self._trainer.engine.state()
        if self._ranks.rank == 0 or is_sharded(engine.tensors):
            state = TrainingState(
                step=step,
                engine=engine,
                sampler_position=0,
                counters=self._trainer.state,
                config_hash=self._hash,
            )
            is_whole = step == self._settings.num_steps
            with self._trainer.averaged():
                snapshot = PolicySnapshot.of(
                    self._policy, self._base, is_whole=is_whole, has_changed=True
                )
            save_checkpoint(
                self._folder,
                snapshot,
                state,
                self._settings.keep_checkpoints,
                ranks=self._ranks,
            )
        self._saved_step = step


class ProgressLog:
    """Logs every few seconds how far fine-tuning is."""

    def __init__(self, num_steps: int, begun: int = 0, every_s: float = LINE_EVERY_S) -> None:
        self._num_steps = num_steps
        self._begun = begun
        self._every_s = every_s
        self._start = self._last = time.monotonic()

    def __call__(self, step: int, metrics: Metrics) -> None:
        """Log loss, rate and time left if it is time to; a held-out loss always."""
        now = time.monotonic()
        held_out = metrics.get("sft/held_out_loss")
        if now - self._last < self._every_s and step < self._num_steps and held_out is None:
            return
        self._last = now
        rate = (step - self._begun) / max(now - self._start, 1e-9)
        logger.info(
            "step %d/%d  loss %.4f%s  %.1f steps/s  %s left",
            step,
            self._num_steps,
            metrics["sft/loss"],
            "" if held_out is None else f"  held-out loss {held_out:.4f}",
            rate,
            duration((self._num_steps - step) / rate),
        )
