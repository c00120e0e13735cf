"""Animate a held-out episode before and after training: ``python tools/before_and_after.py RUN --output FILE.webp``.

The actions of an episode that failed in the first evaluation of the run and succeeded in the newest are executed once more
by the simulator, which draws every control step at 256 pixels. Neither outcome may differ from what the run recorded.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pi0.records import ObservationSpec
from pi0.ript.env.initial_states import make_initial_state
from pi0.ript.env.libero.scene import Scene
from pi0.ript.evaluation.episodes import evaluation_path
from pi0.ript.report.action_log import StoredRollout, read_rollouts

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


def gained(rollouts: Sequence[StoredRollout]) -> list[tuple[StoredRollout, StoredRollout]]:
    """Return the held-out episodes that failed before training and succeeded in the newest evaluation, both times."""
    last = max(rollout.step for rollout in rollouts)
    after = {rollout.key: rollout for rollout in rollouts if rollout.step == last}
    return [
        (rollout, after[rollout.key])
        for rollout in rollouts
        if rollout.step == 0 and not rollout.is_success and after[rollout.key].is_success
    ]


def draw_episode(scene: Scene, rollout: StoredRollout) -> NDArray[np.uint8]:
    """Execute the actions of an episode and return its images, uint8 [control steps + 1, 256, 256, 3].

    Raises:
        RuntimeError: It ends otherwise than it did.
    """
    state = make_initial_state(
        rollout.suite, rollout.task_id, rollout.state_index, rollout.fixture_seed
    )
    first = scene.restore(0, state).images
    result = scene.execute(0, rollout.actions, video=True)
    assert result.frames is not None
    if (result.is_success, len(result.frames)) != (rollout.is_success, len(rollout.actions)):
        raise RuntimeError("the episode ends otherwise than it did: other hardware or versions?")
    return np.stack([cameras[0][::-1] for cameras in (first, *result.frames)])


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
    episodes = gained(read_rollouts(evaluation_path(arguments.run, 0).parent))
    if not 0 <= arguments.episode < len(episodes):
        raise SystemExit(f"--episode must be below {len(episodes)}, the number of episodes gained")
    before, after = episodes[arguments.episode]
    scene = Scene(after.suite, after.task_id, SPEC, 1, after.settling_steps)
    titles = ("before", f"after {after.step} steps")
    sides = [
        Side(title=title, images=draw_episode(scene, rollout), is_success=rollout.is_success)
        for title, rollout in zip(titles, (before, after), strict=True)
    ]
    scene.close()
    animate(sides, arguments.output)
    print(
        f"{arguments.output}: {after.suite}/{after.task_id} {after.task}, state {after.state_index}, "
        f"seed {after.seed}; one of {len(episodes)} episodes gained"
    )


if __name__ == "__main__":
    main()
