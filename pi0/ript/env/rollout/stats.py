"""What a rollout cost, counted reply by reply."""

import math
from dataclasses import dataclass, field

from pi0.ript.interfaces import Fault, Reply

COUNTS = ("scene_builds", "scene_evictions", "restores_cached", "restores_cold")

MISSING = "restart_s"  # while a worker was replaced it did nothing


@dataclass(slots=True, kw_only=True)
class RolloutStats:
    """What a rollout cost.

    Attributes:
        num_episodes: Episodes delivered, crashed ones included.
        num_env_steps: Control steps executed, those of abandoned attempts included.
        num_observations: Observations drawn for the policy.
        num_video_frames: Images drawn after control steps for videos.
        num_retries: Attempts that were given up and started again, whatever the fault.
        num_diverged: Simulations whose physics diverged.
        restarts: Simulators replaced, by fault.
        policy_calls: Batched policy calls.
        policy_samples: Samples over all calls.
        policy_capacity: Samples that the calls had room for.
        policy_seconds: Seconds inside the policy.
        worker_seconds: Simulator seconds by stage, summed over workers.
        busy_seconds: Simulator seconds by worker, summed over stages.
        counts: Scenes built and dropped, restores from the cache of settled states and cold ones.
    """

    num_episodes: int = 0
    num_env_steps: int = 0
    num_observations: int = 0
    num_video_frames: int = 0
    num_retries: int = 0
    num_diverged: int = 0
    restarts: dict[Fault, int] = field(default_factory=dict[Fault, int])
    policy_calls: int = 0
    policy_samples: int = 0
    policy_capacity: int = 0
    policy_seconds: float = 0.0
    worker_seconds: dict[str, float] = field(default_factory=dict[str, float])
    busy_seconds: dict[int, float] = field(default_factory=dict[int, float])
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))

    @property
    def num_restarts(self) -> int:
        """Return how many simulators were replaced."""
        return sum(self.restarts.values())

    @property
    def video_seconds(self) -> float:
        """Return worker seconds that only videos took."""
        return self.worker_seconds.get("video_s", 0.0)

    @property
    def seconds_per_image(self) -> float | None:
        """Return worker seconds per image of a video, else per observation; None before both."""
        if self.num_video_frames:
            return self.video_seconds / self.num_video_frames
        return (
            self.worker_seconds["render_s"] / self.num_observations
            if self.num_observations
            else None
        )

    def add_reply(self, reply: Reply, worker: int) -> None:
        """Count what a request did and took."""
        self.num_env_steps += reply.num_steps
        self.num_observations += "render_s" in reply.timings
        self.num_video_frames += 0 if reply.frames is None else len(reply.frames)
        self.num_diverged += reply.fault == "diverged"
        if reply.fault not in ("", "lost", "diverged"):
            self.restarts[reply.fault] = self.restarts.get(reply.fault, 0) + 1
        for stage, seconds in reply.timings.items():
            self.worker_seconds[stage] = self.worker_seconds.get(stage, 0.0) + seconds
        busy = sum(s for stage, s in reply.timings.items() if stage != MISSING)
        self.busy_seconds[worker] = self.busy_seconds.get(worker, 0.0) + busy
        for name, count in reply.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def add_policy_call(self, num_samples: int, batch_size: int, seconds: float) -> None:
        """Count samples that acted together, in as many batches as they take."""
        num_batches = math.ceil(num_samples / batch_size)
        self.policy_calls += num_batches
        self.policy_samples += num_samples
        self.policy_capacity += num_batches * batch_size
        self.policy_seconds += seconds

    def metrics(self, wall_seconds: float) -> dict[str, float | str]:
        """Return the metrics of a rollout that took ``wall_seconds``."""
        wall = max(wall_seconds, 1e-9)
        return {
            "speed/episodes_per_s": self.num_episodes / wall,
            "speed/env_steps_per_s": self.num_env_steps / wall,
            "speed/policy_batch_samples": self.policy_samples / max(self.policy_calls, 1),
            "speed/policy_batch_fill": self.policy_samples / max(self.policy_capacity, 1),
            **{
                f"speed/worker_{number}_busy_share": seconds / wall
                for number, seconds in sorted(self.busy_seconds.items())
            },
            **{f"speed/{name}": count for name, count in self.counts.items()},
            "rollout/num_retries": self.num_retries,
            "rollout/num_diverged": self.num_diverged,
            "rollout/restarts": self.num_restarts,
            "rollout/hangs": self.restarts.get("hung", 0),
            **{
                f"rollout/restarts_{fault}": count for fault, count in sorted(self.restarts.items())
            },
            "rollout/restart_causes": ", ".join(
                f"{fault} {count}" for fault, count in sorted(self.restarts.items())
            ),
            "time/policy_s": self.policy_seconds,
            **{f"time/worker_{stage}": s for stage, s in sorted(self.worker_seconds.items())},
        }
