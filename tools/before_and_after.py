"""Animate a held-out episode before and after training: ``python tools/before_and_after.py RUN --output FILE.webp``.

Both policies act again on the images they were made for, in an episode of the run's evaluations that
failed before and succeeded after. Their actions are then replayed by the simulator, which draws every
control step at 256 pixels. Neither outcome may differ from what the run recorded.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pi0.policy import Pi0Policy
from pi0.records import ObservationSpec, Sampling
from pi0.ript.build_policy import build_policy
from pi0.ript.build_runner import resolve_tasks
from pi0.ript.config.load import RUN_CONFIG_NAME, read_config
from pi0.ript.config.schema import TrainConfig
from pi0.ript.env.libero.scene import Scene
from pi0.ript.env.suites import protocol_of
from pi0.ript.evaluation.episodes import (
    evaluation_path,
    read_evaluation,
    request_key,
    requests_of_run,
)
from pi0.ript.interfaces import StepProtocol
from pi0.ript.scripts.train_ript_pi0 import create_env_runner
from pi0.ript.types import Episode, EpisodeRequest

SPEC = ObservationSpec(cameras=("agentview",), height=256, width=256)
STEPS_PER_FRAME = 2
FRAME_MS = 100  # two control steps of 50 ms: as fast as the robot moves
HOLD_MS = 1500
CAPTION_HEIGHT = 30
WHITE, GRAY, BLUE, ORANGE = "#ffffff", "#666666", "#0072b2", "#d55e00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One half of the animation: images uint8 [control steps + 1, 256, 256, 3], upright."""

    title: str
    images: NDArray[np.uint8]
    is_success: bool

    def frame(self, step: int) -> Image.Image:
        """Return the image after a control step, or the last one, with its caption above."""
        num_steps = len(self.images) - 1
        height, width = self.images.shape[1:3]
        frame = Image.new("RGB", (width, height + CAPTION_HEIGHT), WHITE)
        frame.paste(Image.fromarray(self.images[min(step, num_steps)]), (0, CAPTION_HEIGHT))
        draw, font = ImageDraw.Draw(frame), ImageFont.load_default(15)
        draw.text((6, 6), self.title, fill="#000000", font=font)
        text, color = f"step {step}", GRAY
        if step >= num_steps:
            text, color = (
                (f"solved at step {num_steps}", BLUE)
                if self.is_success
                else (f"not solved in {num_steps}", ORANGE)
            )
        draw.text((width - 6, 6), text, fill=color, font=font, anchor="ra")
        return frame


def gained(
    run: Path, config: TrainConfig, protocol: StepProtocol, last_step: int
) -> list[EpisodeRequest]:
    """Return the evaluated episodes that failed before training and succeeded after it."""
    before, after = (
        {record.key: record for record in read_evaluation(evaluation_path(run, step))}
        for step in (0, last_step)
    )
    return [
        request
        for request in requests_of_run(config, resolve_tasks(config), protocol)
        if before[request_key(request)].outcome == "failure"
        and after[request_key(request)].is_success
    ]


def act(config: TrainConfig, policy: Pi0Policy, request: EpisodeRequest) -> Episode:
    """Run one episode as the evaluations of the run do."""
    requests = iter([request])
    with create_env_runner(config, policy) as runner:
        sampling = Sampling(num_steps=config.policy.denoise_steps)
        (episode,) = runner.run(lambda: next(requests, None), sampling)
    return episode


def film(scene: Scene, episode: Episode) -> NDArray[np.uint8]:
    """Replay the actions of an episode and return its images, uint8 [control steps + 1, 256, 256, 3].

    Raises:
        RuntimeError: The replay ends otherwise than the episode.
    """
    images = [scene.restore(0, episode.request.initial_state).images]
    is_success = False
    for policy_step in episode.policy_steps:
        result = scene.execute(0, policy_step.chunk.actions[: policy_step.num_executed], video=True)
        assert result.frames is not None
        images += list(result.frames)
        is_success = result.is_success
    if (is_success, len(images) - 1) != (episode.outcome == "success", episode.num_steps):
        raise RuntimeError("the replay ended otherwise than the episode")
    return np.stack([cameras[0][::-1] for cameras in images])


def animate(sides: Sequence[Side], output: Path) -> None:
    """Write the sides next to each other as an animation; the suffix chooses WebP or GIF."""
    last = max(len(side.images) for side in sides) - 1
    steps = [*range(0, last, STEPS_PER_FRAME), last]
    frames = [_side_by_side([side.frame(step) for side in sides]) for step in steps]
    durations = [FRAME_MS] * (len(frames) - 1) + [HOLD_MS]
    frames[0].save(
        output, save_all=True, append_images=frames[1:], duration=durations, loop=0,
        quality=70, method=6,
    )  # fmt: skip


def _side_by_side(frames: Sequence[Image.Image]) -> Image.Image:
    whole = Image.new("RGB", (sum(frame.width for frame in frames), frames[0].height), WHITE)
    for number, frame in enumerate(frames):
        whole.paste(frame, (number * frame.width, 0))
    return whole


def main() -> None:
    """Choose the episode, run both policies on it, and write the animation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a finished run with evaluations at both ends")
    parser.add_argument("--output", type=Path, required=True, help="a .webp or .gif file")
    parser.add_argument("--episode", type=int, default=0, help="which of the episodes gained")
    arguments = parser.parse_args()
    run: Path = arguments.run
    config = read_config(run / RUN_CONFIG_NAME)
    checkpoint = (run / "checkpoints" / "last").resolve()
    base = build_policy(config)
    requests = gained(run, config, protocol_of(base), int(checkpoint.name))
    if not 0 <= arguments.episode < len(requests):
        raise SystemExit(f"--episode must be below {len(requests)}, the number of episodes gained")
    request = requests[arguments.episode]
    state = request.initial_state
    before = act(config, base, request)
    after = act(config, build_policy(config, checkpoint / "pretrained_model"), request)
    if (before.outcome, after.outcome) != ("failure", "success"):
        raise SystemExit("the episodes differ from those of the run: other hardware or versions?")
    scene = Scene(state.suite, state.task_id, SPEC, 1, config.task.num_steps_wait)
    titles = ("before", f"after {checkpoint.name} steps")
    sides = [
        Side(title=title, images=film(scene, episode), is_success=episode.outcome == "success")
        for title, episode in zip(titles, (before, after), strict=True)
    ]
    scene.close()
    animate(sides, arguments.output)
    print(
        f"{arguments.output}: {state.suite}/{state.task_id} {before.task}, state {state.index}, "
        f"seed {request.seed}; one of {len(requests)} episodes gained"
    )


if __name__ == "__main__":
    main()
