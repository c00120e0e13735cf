"""The loop of supervised fine-tuning: flow matching on frames of demonstrations, for any policy.

Every rank draws the same frames and computes its own part of them, so that several ranks take the step that one would.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pi0.inputs import Inputs
from pi0.policy import Pi0Policy
from pi0.records import Observation
from pi0.ript.algo.reference import Snapshot, holding
from pi0.ript.datasets.frames import Frames
from pi0.ript.engine.engine import Engine
from pi0.ript.engine.torch_settings import all_cores
from pi0.ript.interfaces import Ranks
from pi0.ript.sft.augmentation import augmented
from pi0.ript.sft.draws import Draw, Draws, Numbers
from pi0.ript.sft.settings import SftSettings, learning_rate

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SftBatch:
    """A rank's part of a draw, encoded.

    Attributes:
        draw: Frames, noise and times.
        inputs: The encoded observations.
        actions: float32 [B, H, A], model space.
    """

    draw: Draw
    inputs: Inputs
    actions: Tensor


def trained_parameters(policy: Pi0Policy) -> list[nn.Parameter]:
    """Return what training changes."""
    return [each for each in policy.network.core.parameters() if each.requires_grad]


def encode_draw(policy: Pi0Policy, frames: Frames, draw: Draw) -> SftBatch:
    """Read the images of a draw, encode everything for the network, change images where the draw says how."""
    proprio = frames.proprio[draw.frames]
    images = frames.read_images(draw.frames)
    observations = [
        Observation(images=image, proprio=numbers)
        for image, numbers in zip(images, proprio, strict=True)
    ]
    tasks = [frames.tasks[task] for task in frames.task_index[draw.frames]]
    chunks = frames.read_chunks(draw.frames, policy.card.horizon)
    inputs = policy.encode(observations, tasks)
    if draw.changes is not None:
        inputs = augmented(inputs, draw.changes, policy.card.cameras)
    return SftBatch(
        draw=draw,
        inputs=inputs,
        actions=torch.from_numpy(policy.codec.encode_actions(chunks, proprio)),
    )


def micro_batches(count: int, size: int) -> Iterator[slice]:
    """Yield slices of at most ``size`` of ``count`` samples; 0 is one slice of all."""
    size = size or count
    for start in range(0, count, size):
        yield slice(start, start + size)


def frame_losses(policy: Pi0Policy, batch: SftBatch, some: slice) -> Tensor:
    """Return flow matching's loss of some frames, float32 [b]: mean of (v - (noise - actions))^2 over numbers and draws."""
    inputs = batch.inputs.select(some)
    return policy.flow_matching_loss(
        policy.prefix(inputs),
        inputs,
        batch.actions[some],
        torch.from_numpy(batch.draw.noise[some]),
        torch.from_numpy(batch.draw.times[some]),
    )


class SftTrainer:
    """Takes optimizer steps; the images of the next one are read meanwhile.

    Args:
        policy: Trained in place.
        engine: Around its trained parameters, with a learning rate of 1.
        frames: The data set.
        draws: What each step learns from, the same on every rank.
        held_out: What the held-out loss is measured with; None measures none.
        settings: How long, how fast.
        ranks: The processes that learn together.
        step: Steps that are finished.
        state: Of the generator after those steps.
        mean: Running mean of the trained weights after those steps; None takes none.
    """

    def __init__(
        self,
        *,
        policy: Pi0Policy,
        engine: Engine,
        frames: Frames,
        draws: Draws,
        held_out: Draw | None,
        settings: SftSettings,
        ranks: Ranks,
        step: int,
        state: Numbers,
        mean: Snapshot | None = None,
    ) -> None:
        self._policy, self.engine, self._mean = policy, engine, mean
        self._frames, self._draws, self._held_out = frames, draws, held_out
        self._settings, self._ranks = settings, ranks
        self.step = step
        self.state = state
        self.is_updating = False  # weights and optimizer belong to no step

    def train(self, on_step: Callable[[int, Metrics], None]) -> None:
        """Take the steps that are left; ``on_step`` is told the finished step and its metrics.

        Raises:
            ValueError: The loss or its gradient is not finite; weights are those of the step before.
        """
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="frames") as reader, all_cores():
            upcoming = self._request(reader)
            while self.step < self._settings.num_steps:
                start = time.monotonic()
                batch = upcoming.result()
                waited = time.monotonic() - start
                if self.step + 1 < self._settings.num_steps:
                    upcoming = self._request(reader)
                metrics = self._take_step(batch)
                metrics |= self._held_out_loss(reader)
                seconds = time.monotonic() - start
                metrics |= {"time/update_s": seconds, "time/data_s": waited}
                on_step(self.step, metrics)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Give the policy the running mean of its weights inside the block, if one is taken."""
        if self._mean is None:
            yield
            return
        with holding(trained_parameters(self._policy), self._mean.weights):
            yield

    def _request(self, reader: ThreadPoolExecutor) -> Future[SftBatch]:
        draw = self._draws.next()
        return self._encode(reader, draw.part(self._own(draw)))

    def _encode(self, reader: ThreadPoolExecutor, draw: Draw) -> Future[SftBatch]:
        """Let the one thread that may read images encode a draw: files that are open serve one at a time."""
        return reader.submit(encode_draw, self._policy, self._frames, draw)

    def _own(self, draw: Draw) -> slice:
        """Return this rank's frames of a draw."""
        count = len(draw.frames)
        rank, world_size = self._ranks.rank, self._ranks.world_size
        return slice(count * rank // world_size, count * (rank + 1) // world_size)

    def _take_step(self, batch: SftBatch) -> dict[str, float]:
        lr = learning_rate(self.step, self._settings)
        total = 0.0
        try:
            with self.engine.learning():
                for some in micro_batches(len(batch.inputs), self._settings.micro_batch):
                    loss = frame_losses(self._policy, batch, some).sum()
                    self.engine.backward(loss / self._settings.frames_per_step)
                    total += loss.item()
                (total,) = self.engine.exchange([total])
                self.is_updating = True
                grad_norm = self.engine.step(lr)
            if self._mean is not None:
                self._mean.follow(trained_parameters(self._policy), self._settings.ema_decay)
        except FloatingPointError as error:
            self.is_updating = False
            raise ValueError(
                f"{error}, step {self.step + 1} was not taken; lower --lr or look at the data"
            ) from None
        self.step, self.state = self.step + 1, batch.draw.state
        self.is_updating = False
        mean = total / self._settings.frames_per_step
        return {"sft/loss": mean, "sft/grad_norm": grad_norm, "sft/lr": lr}

    def _held_out_loss(self, reader: ThreadPoolExecutor) -> dict[str, float]:
        """Return the loss of what would be saved on held-out episodes where it is due, the same draw every time."""
        is_due = self.step % self._settings.held_out_every == 0
        if self._held_out is None or not (is_due or self.step == self._settings.num_steps):
            return {}
        own = self._held_out.part(self._own(self._held_out))
        total = 0.0
        with torch.no_grad(), self.averaged():
            for some in micro_batches(len(own.frames), self._settings.micro_batch or 16):
                batch = self._encode(reader, own.part(some)).result()
                total += frame_losses(self._policy, batch, slice(None)).sum().item()
        sums = self._ranks.gather(np.array([total]))
        return {"sft/held_out_loss": float(np.sum(sums)) / len(self._held_out.frames)}
