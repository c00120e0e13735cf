"""The held-out episodes of a run: run with the current policy, or read where the run has measured it before."""

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pi0.description import describe_policy
from pi0.policy import Pi0Policy
from pi0.records import Sampling
from pi0.ript.config.schema import VideoConfig
from pi0.ript.env.runner import EnvRunner
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.episodes import (
    evaluate,
    evaluation_path,
    read_evaluation,
    set_aside,
    write_evaluation,
)
from pi0.ript.evaluation.video_cost import video_cost
from pi0.ript.interfaces import Ranks
from pi0.ript.report.action_log import ActionLog, evaluation_actions_name
from pi0.ript.report.video import EpisodeVideos, VideoWriter
from pi0.ript.train.memory_watch import MemoryWatch
from pi0.ript.train.nan_guard import inspectable_episodes
from pi0.ript.train.progression import Stages
from pi0.ript.types import Episode, EpisodeRequest


@dataclass(frozen=True, kw_only=True)
class Evaluator:
    """Measures the policy of a run on the same held-out episodes every time.

    Attributes:
        policy: What is measured.
        runner: Runs the episodes.
        requests: The held-out episodes.
        protocol: What they are, in words.
        sampling: How the policy draws its action chunks: without noise.
        ranks: The processes that share the episodes; rank 0 alone reads and writes files.
        memory: Watches it.
        stages: Shows the progress.
        video: Limits of the videos.
        settling_steps: Control steps before the first action of an episode.
        run_dir: Run directory.
    """

    policy: Pi0Policy
    runner: EnvRunner
    requests: list[EpisodeRequest]
    protocol: str
    sampling: Sampling
    ranks: Ranks
    memory: MemoryWatch
    stages: Stages
    video: VideoConfig
    settling_steps: int
    run_dir: Path

    @property
    def policy_card(self) -> dict[str, object]:
        """Return what results depend on besides the weights, ready for JSON."""
        return describe_policy(self.policy)

    def run(self, step: int) -> list[EpisodeRecord]:
        """Run the episodes with the policy as it is after ``step`` and return their records, of all ranks.

        Executed actions are kept of the first evaluation and of this one, so that both can be drawn again.
        """
        with (
            self.stages.of_evaluation(step, len(self.requests)) as show,
            VideoWriter.within(self.video) as writer,
            video_cost(self.requests, self.runner),
            inspectable_episodes(self.run_dir, step),
            closing(self._new_action_log(step)) as actions,
        ):

            def on_episode(episode: Episode) -> None:
                self.memory.sample()
                actions.append([actions.entry(step, episode)])
                show(episode)

            folder = self.video.folder(self.run_dir) / f"step_{step}"
            records = evaluate(
                lambda source: self.runner.run(source, self.sampling),
                self.requests,
                EpisodeVideos(writer, folder, on_episode),
                self.ranks,
            )
        self._drop_actions_between(step)
        return records

    def _new_action_log(self, step: int) -> ActionLog:
        path = evaluation_path(self.run_dir, step).with_name(self._actions_name(step))
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)  # of the same evaluation, interrupted
        return ActionLog(path, "all", self.settling_steps)

    def _drop_actions_between(self, step: int) -> None:
        kept = {self._actions_name(0), self._actions_name(step)}
        folder = evaluation_path(self.run_dir, step).parent
        for path in folder.glob(self._actions_name("*")):
            if path.name not in kept:
                path.unlink()

    def _actions_name(self, step: int | str) -> str:
        return evaluation_actions_name(step, self.ranks.rank)

    def records(self, step: int, *, is_current: bool) -> list[EpisodeRecord]:
        """Return the records after ``step``, from rank 0's disk or by running the episodes; a collective.

        Args:
            step: Steps of training before.
            is_current: Whether the policy is still that of the step.

        Raises:
            ValueError: They are neither on disk nor to be had, because the policy has moved on.
        """
        path = evaluation_path(self.run_dir, step)
        if first_text(self.ranks, str(path.is_file())) == str(True):
            own = read_evaluation(path) if self.ranks.rank == 0 else []
            text = first_text(self.ranks, json.dumps([record.to_dict() for record in own]))
            return [EpisodeRecord(**record) for record in json.loads(text)]
        if not is_current:
            raise ValueError(
                f"{path} is missing and the policy of step {step} is gone; put the file back, or start "
                "a new run"
            )
        records = self.run(step)
        if self.ranks.rank == 0:
            write_evaluation(path, self.policy_card, records)
        return records

    def set_aside(self, step: int) -> None:
        """Keep the records after ``step``, whose policy the run does not keep, under another name."""
        if self.ranks.rank == 0:
            set_aside(evaluation_path(self.run_dir, step))


def first_text(ranks: Ranks, text: str) -> str:
    """Return the text of rank 0; a collective."""
    return ranks.gather_text(text)[0]
