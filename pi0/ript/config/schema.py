"""Every setting of a run, typed, with its default and its reason. The only place where defaults live.

Field checks live in ``__post_init__``; messages name the dotted key, the value and what is allowed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pi0.ript.config.algo import AlgoConfig
from pi0.ript.config.checks import require as _require
from pi0.ript.config.optimizer import OptimizerConfig
from pi0.ript.config.policy_overrides import PolicyOverrides
from pi0.ript.config.ray_simulators import RayConfig
from pi0.ript.config.safety import RegressionGuardConfig

Backend = Literal["inline", "process", "ray"]
Auto = Literal["auto"]
Schedule = Literal["ready", "lockstep"]
Device = Literal["auto", "cpu", "cuda"]
Strategy = Literal["auto", "ddp", "fsdp"]
TaskName = str | int

DEFAULT_HELD_OUT = 20
STATES_PER_TASK = 50
MAX_NUMPY_SEED = 2**32


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is practised.

    Attributes:
        benchmark_name: LIBERO suite, e.g. ``libero_goal``.
        task_name: One task by name or index; ``task_names_to_use`` is used where it is null.
        task_names_to_use: Several tasks by name or index; empty means all tasks of the suite. A task of
            another suite is named with it: ``libero_object/0``.
        num_parallel_envs: Simulator slots of the parallel runner (the serial one has one); ``auto`` chooses
            from cores, memory and K, and says what it chose.
        max_episode_length: Control steps per episode after settling; null takes the suite's own limit.
        num_steps_wait: Settling steps before the policy acts.
        num_held_out_states: The last n of LIBERO's 50 initial states per task are never practised on;
            evaluation uses only those.
        fixture_seed: Seeds the fixture poses that LIBERO's initial states do not contain.
    """

    benchmark_name: str = "libero_goal"
    task_name: TaskName | None = None
    task_names_to_use: tuple[TaskName, ...] = ()
    num_parallel_envs: int | Auto = "auto"
    max_episode_length: int | None = None
    num_steps_wait: int = 10
    num_held_out_states: int = DEFAULT_HELD_OUT
    fixture_seed: int = 0

    def __post_init__(self) -> None:
        _require(
            self.num_parallel_envs == "auto" or self.num_parallel_envs >= 1,
            f"task.num_parallel_envs must be >= 1 or auto, got {self.num_parallel_envs}",
        )
        _require(
            self.max_episode_length is None or self.max_episode_length >= 1,
            f"task.max_episode_length must be >= 1 or null, got {self.max_episode_length}",
        )
        _require(
            self.num_steps_wait >= 0, f"task.num_steps_wait must be >= 0, got {self.num_steps_wait}"
        )
        _require(
            0 <= self.fixture_seed < MAX_NUMPY_SEED,
            f"task.fixture_seed must be in [0, 2**32), got {self.fixture_seed}",
        )
        _require(
            1 <= self.num_held_out_states < STATES_PER_TASK,
            f"task.num_held_out_states must be in [1, {STATES_PER_TASK - 1}], got {self.num_held_out_states}",
        )


@dataclass(frozen=True, kw_only=True)
class EnvConfig:
    """How simulators are run.

    Attributes:
        backend: Where the parallel runner has its simulators: ``process`` in worker processes, ``ray`` in
            actors of a Ray cluster, ``inline`` all in this process. The serial runner has its one simulator
            in this process.
        num_workers: Worker processes or actors; ``auto`` takes one per core, at most one per slot and as many as
            memory allows; null means the same. A cluster at ``ray.address`` wants a number.
        max_scenes: Most scenes (about 1 GB each) loaded per worker at any time; the least recently used one
            that no episode is in makes room for another.
        schedule: ``ready`` keeps every simulator going; ``lockstep`` waits for the slowest one at every decision
            and is there for comparison only. The episodes are the same.
        egl_device: Which GPU draws, as EGL counts them; ``auto`` takes the one the policy is on, unless the
            environment variable MUJOCO_EGL_DEVICE_ID says otherwise.
        timeout_s: Most seconds a worker may take for a command before it counts as hung and is replaced; a
            limit of its own, learned from what such commands take, applies sooner (docs/robustness.md).
        max_attempts: How often an episode is tried whose own simulation raises an error, before it is reported
            as crashed.
        max_restarts: How many workers may be replaced in one collection or evaluation, whatever ended them,
            before the run saves a checkpoint and stops.
        ray: Simulators on other hosts.
    """

    backend: Backend = "process"
    num_workers: int | Auto | None = "auto"
    max_scenes: int = 4
    schedule: Schedule = "ready"
    egl_device: int | Auto = "auto"
    timeout_s: float = 120.0
    max_attempts: int = 3
    max_restarts: int = 20
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        _require(
            self.num_workers in ("auto", None) or self.num_workers >= 1,
            f"env.num_workers must be >= 1, auto or null, got {self.num_workers}",
        )
        _require(
            self.egl_device == "auto" or self.egl_device >= 0,
            f"env.egl_device must be >= 0 or auto, got {self.egl_device}",
        )
        _require(self.max_scenes >= 1, f"env.max_scenes must be >= 1, got {self.max_scenes}")
        _require(self.timeout_s > 0, f"env.timeout_s must be > 0, got {self.timeout_s}")
        _require(self.max_attempts >= 1, f"env.max_attempts must be >= 1, got {self.max_attempts}")
        _require(self.max_restarts >= 0, f"env.max_restarts must be >= 0, got {self.max_restarts}")
        _require(
            not self.uses_cluster or self.num_workers not in ("auto", None),
            f"env.num_workers must be a number where env.ray.address is {self.ray.address}: the cores of the "
            f"cluster that simulators may take, got {self.num_workers}",
        )

    @property
    def uses_cluster(self) -> bool:
        """Return whether simulators live in a cluster that exists without this run."""
        return self.backend == "ray" and self.ray.address is not None


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """Low-rank adapters (needs ``pip install 'pi0-ript[lora]'``).

    Attributes:
        rank: Rank of the adapters; 0 trains weights instead of adapters. Checkpoints hold them merged.
        targets: ``vlm`` (language model), ``expert`` or ``both``. Only ``expert`` leaves the prefix as it
            is, so that an update computes it once per row.
    """

    rank: int = 0
    targets: Literal["vlm", "expert", "both"] = "expert"

    def __post_init__(self) -> None:
        _require(self.rank >= 0, f"policy.lora.rank must be >= 0, got {self.rank}")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How the policy is run.

    Attributes:
        device: ``auto`` takes the GPU if there is one; the choice is announced.
        batch_size: Rows per policy call. Smaller ready sets are padded to it, so that an answer
            never depends on which other simulators happened to be ready.
        denoise_steps: S, denoise steps while practising and evaluating.
        train_expert_only: Train the action expert and projections; the vision-language model is frozen.
        gradient_checkpointing: Compute every layer again in the backward pass: less memory, more time.
        compile: Run denoise steps through torch.compile; needs a C++ compiler on a CPU.
        lora: Low-rank adapters; they replace the choice of ``train_expert_only``.
        protocol: Preset of all pre- and post-processing; null takes the one that belongs to the
            checkpoint's layout, see docs/checkpoints.md.
        tokenizer_path: Overrides the tokenizer of the checkpoint: a tokenizer.json, a sentencepiece
            model or a folder with one.
        overrides: Single keys of the policy card.
    """

    device: Device = "auto"
    batch_size: int = 4
    denoise_steps: int = 4
    train_expert_only: bool = True
    gradient_checkpointing: bool = False
    compile: bool = False
    lora: LoraConfig = field(default_factory=LoraConfig)
    protocol: Literal["openpi", "lerobot"] | None = None
    tokenizer_path: str | None = None
    overrides: PolicyOverrides = field(default_factory=PolicyOverrides)

    def __post_init__(self) -> None:
        _require(self.batch_size >= 1, f"policy.batch_size must be >= 1, got {self.batch_size}")
        _require(
            self.denoise_steps >= 2, f"policy.denoise_steps must be >= 2, got {self.denoise_steps}"
        )

    @property
    def has_frozen_prefix(self) -> bool:
        """Return whether nothing that is trained changes how pictures and instructions are read."""
        return self.lora.targets == "expert" if self.lora.rank else self.train_expert_only


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, from which seed, and what is kept.

    Attributes:
        num_train_steps: RIPT steps (collect, update).
        seed: The one seed from which every random draw of the run derives.
        save_freq: Steps between checkpoints; the last step is always saved.
        keep_checkpoints: Newest checkpoints kept; older ones are deleted.
        target_success: Stop once the mean practice success of the last three steps reaches this; null never.
        overlap: Practise the next step while an update is computed, with weights that are one update older;
            needs ``algo.objective`` flow_sde, which makes up for it, and simulators in processes of their own.
        memory_limit_gb: Memory, in GB, that trainer and simulators on its machine may take together; near it
            cached scenes are dropped, then the run ends with a checkpoint. ``auto`` is what the machine has.
        regression_guard: What to do when practice makes the policy worse.
        optimizer: AdamW settings.
    """

    num_train_steps: int = 20
    seed: int = 42
    save_freq: int = 5
    keep_checkpoints: int = 2
    target_success: float | None = None
    overlap: bool = False
    memory_limit_gb: float | Auto = "auto"
    regression_guard: RegressionGuardConfig = field(default_factory=RegressionGuardConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        for name in ("num_train_steps", "save_freq", "keep_checkpoints"):
            _require(
                getattr(self, name) >= 1, f"training.{name} must be >= 1, got {getattr(self, name)}"
            )
        _require(
            self.memory_limit_gb == "auto" or self.memory_limit_gb > 0,
            f"training.memory_limit_gb must be > 0 or auto, got {self.memory_limit_gb}",
        )
        _require(
            self.target_success is None or 0 < self.target_success <= 1,
            f"training.target_success must be in (0, 1] or null, got {self.target_success}",
        )


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Held-out evaluation with the deterministic ODE, before and after practice.

    Attributes:
        rollouts_per_task: Episodes per task, spread over the held-out initial states; 0 switches it off.
        every: Steps between further evaluations, of the same episodes; 0 for none.
        save_videos: Episodes per task filmed in every evaluation; the report shows them before and after.
    """

    rollouts_per_task: int = 100
    every: int = 0
    save_videos: int = 3

    def __post_init__(self) -> None:
        for name in ("rollouts_per_task", "every", "save_videos"):
            _require(
                getattr(self, name) >= 0,
                f"evaluation.{name} must be >= 0, got {getattr(self, name)}",
            )


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Films of practice, and limits for all films; how many of an evaluation is ``evaluation.save_videos``.

    Attributes:
        save: Film the rollouts of the first initial state of every step; the environment variable
            PI0_DEBUG_SAVE_VIDEO wins.
        dir: Folder of all films; null takes ``videos`` in the run directory; the environment variable
            PI0_DEBUG_IMAGE_DIR wins.
        max_films: Most films of all practice together, and most films of each evaluation.
        max_megabytes: No further film once those of practice, or of an evaluation, take this much.
    """

    save: bool = False
    dir: str | None = None
    max_films: int = 100
    max_megabytes: float = 100.0

    def __post_init__(self) -> None:
        for name in ("max_films", "max_megabytes"):
            _require(
                getattr(self, name) >= 0, f"video.{name} must be >= 0, got {getattr(self, name)}"
            )

    def folder(self, run_dir: Path) -> Path:
        """Return the folder of all films of a run."""
        return Path(self.dir) if self.dir else run_dir / "videos"


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Switches.

    Attributes:
        use_ript_vla_runner: true = parallel runner, false = serial runner; the environment variable
            USE_RIPT_VLA_RUNNER wins.
    """

    use_ript_vla_runner: bool = False


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """Where figures go besides ``metrics.jsonl``, which is always written.

    Attributes:
        level: Least severity of log lines shown.
        tensorboard: Write TensorBoard files into the run directory.
        wandb: Log to Weights & Biases as well (needs ``pip install 'pi0-ript[wandb]'``); the environment
            variable WANDB_MODE=offline keeps everything in the run directory.
        wandb_project: Project of the run there.
        wandb_name: Name of the run there; null takes that of the run directory.
    """

    level: Literal["DEBUG", "INFO", "WARNING"] = "INFO"
    tensorboard: bool = True
    wandb: bool = False
    wandb_project: str = "pi0-ript"
    wandb_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class DistributedConfig:
    """How several processes that torchrun started train together; without torchrun it has no effect.

    Attributes:
        strategy: ``ddp`` keeps a whole copy of the policy and its optimizer on every rank, ``fsdp``
            spreads what is trained over ranks while learning; ``auto`` takes ``ddp`` where it fits.
        timeout_seconds: Seconds after which ranks that wait for another one give it up.
    """

    strategy: Strategy = "auto"
    timeout_seconds: float = 3600.0

    def __post_init__(self) -> None:
        _require(
            self.timeout_seconds > 0,
            f"distributed.timeout_seconds must be > 0, got {self.timeout_seconds}",
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole run.

    Attributes:
        exp_name: Name of the run; the run directory is ``output_dir/exp_name`` plus a time stamp.
        policy_path: ``builtin`` or a checkpoint folder.
        output_dir: Folder that receives run directories.
        norm_stats_path: Overrides the normalisation statistics of the checkpoint.
    """

    exp_name: str = "ript"
    policy_path: str = "builtin"
    output_dir: str = "outputs"
    norm_stats_path: str | None = None
    task: TaskConfig = field(default_factory=TaskConfig)
    env: EnvConfig = field(default_factory=EnvConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    algo: AlgoConfig = field(default_factory=AlgoConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    distributed: DistributedConfig = field(default_factory=DistributedConfig)

    def __post_init__(self) -> None:
        self._check_guard()
        if not self.training.overlap:
            return
        _require(
            self.algo.objective == "flow_sde",
            "training.overlap needs algo.objective flow_sde, whose likelihoods make up for older "
            f"weights, got {self.algo.objective}; set training.overlap to false",
        )
        _require(
            self.env.backend != "inline",
            "training.overlap needs simulators in processes of their own, got env.backend inline; "
            "set env.backend to process or training.overlap to false",
        )
        _require(
            not self.evaluation.every,
            "training.overlap keeps the simulators busy between steps, so evaluation.every must be 0, got "
            f"{self.evaluation.every}; set training.overlap to false",
        )

    def _check_guard(self) -> None:
        guard, evaluation = self.training.regression_guard, self.evaluation
        is_fed = guard.measure == "practice" or (evaluation.every and evaluation.rollouts_per_task)
        _require(
            guard.drop is None or bool(is_fed),
            "training.regression_guard compares held-out evaluations, but evaluation.every is "
            f"{evaluation.every} and evaluation.rollouts_per_task {evaluation.rollouts_per_task}; set both",
        )
