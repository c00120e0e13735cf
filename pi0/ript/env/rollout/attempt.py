"""An attempt at an episode: what has happened in it so far."""

from dataclasses import dataclass, field
from time import perf_counter

from pi0.records import Chunk, Observation
from pi0.ript.interfaces import Reply
from pi0.ript.packed_frames import PackedFrames
from pi0.ript.seeding import noise_seed
from pi0.ript.types import Episode, EpisodeRequest, Outcome, PolicyStep


def origin(request: EpisodeRequest) -> str:
    """Return which initial state an episode begins in, in words."""
    state = request.initial_state
    return f"{state.suite} task {state.task_id}, state {state.index}"


@dataclass(slots=True, kw_only=True)
class Attempt:
    """Grows with every reply of its slot, until it is an episode.

    Attributes:
        request: Which episode is to be run.
        task: The instruction given to the policy.
        number: Which attempt at the request this is, from 1 on; a lost worker counts none.
        observation: The newest observation; None before the first.
        chunk: The newest action chunk; None before the first.
        policy_steps: What was executed.
        frames: Images of what was executed, one entry per action chunk.
        num_steps: Control steps executed.
        started: When it began, in seconds of ``perf_counter``.
    """

    request: EpisodeRequest
    task: str
    number: int = 1
    observation: Observation | None = None
    chunk: Chunk | None = None
    policy_steps: list[PolicyStep] = field(default_factory=list[PolicyStep])
    frames: list[PackedFrames] = field(default_factory=list[PackedFrames])
    num_steps: int = 0
    started: float = field(default_factory=perf_counter)

    @property
    def scene(self) -> tuple[str, int]:
        """Return which suite and task it needs."""
        return self.request.initial_state.suite, self.request.initial_state.task_id

    @property
    def newest(self) -> Observation:
        """Return the observation that the policy acts on next."""
        assert self.observation is not None
        return self.observation

    @property
    def noise_seed(self) -> int:
        """Return the seed of the next policy step."""
        return noise_seed(self.request.seed, len(self.policy_steps))

    @property
    def num_left(self) -> int:
        """Return how many control steps may follow."""
        return self.request.max_steps - self.num_steps

    def advance(self, reply: Reply) -> Episode | None:
        """Take a reply without an error and return the episode if it has ended."""
        last, self.observation = self.observation, reply.observation
        if self.chunk is None or last is None:
            return None  # just restored
        self._append(last, self.chunk, reply)
        if reply.is_success:
            return self.finish("success")
        return self.finish("failure") if self.num_left <= 0 else None

    def crash(self, reply: Reply) -> Episode:
        """Take a reply with an error and return the episode that ends there, with all that was executed."""
        if reply.num_steps:
            assert self.chunk is not None
            self._append(self.newest, self.chunk, reply)
        return self.finish("crashed", reply.error)

    def _append(self, observation: Observation, chunk: Chunk, reply: Reply) -> None:
        self.policy_steps.append(
            PolicyStep(observation=observation, chunk=chunk, num_executed=reply.num_steps)
        )
        self.frames += [reply.frames] if reply.frames is not None else []
        self.num_steps += reply.num_steps

    def finish(self, outcome: Outcome, error: str = "") -> Episode:
        """Return the episode."""
        return Episode(
            request=self.request,
            task=self.task,
            policy_steps=tuple(self.policy_steps),
            outcome=outcome,
            num_steps=self.num_steps,
            error=error,
            frames=tuple(self.frames),
            seconds=perf_counter() - self.started,
        )
