"""Keys of earlier configuration files: what became of each.

A key that meant something is renamed to the setting that means it here; a key that never had an effect, or
whose effect does not exist here, is accepted and named in a warning; every other key is an error. A key is
either here or in the schema, never in both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pi0.ript.config.decode import known_keys
from pi0.ript.config.schema import TrainConfig

_BFLOAT16: dict[object, object] = {True: "bfloat16", False: None}
_WANDB = "use logging.wandb and the keys beside it"
_GUIDANCE = "set algo.cfg under algo.objective cfg"
_LAUNCH = "torchrun decides how many processes train; see distributed.strategy and docs/scaling.md"
_DATA = "episodes come from the simulator; there is no data loader"
_REAL_STATES = "rollouts start from LIBERO's own initial states, see task.num_held_out_states"
_PARALLEL = "use features.use_ript_vla_runner and task.num_parallel_envs"
_SAMPLING = "use algo.enable_dynamic_sampling"
_DEBUG = "use logging.level, --override video.save=true and TensorBoard"
_CHECKPOINTS = "use training.save_freq, training.keep_checkpoints and --resume"
_PATHS = "write the path where it is used"
_CONTEXTS = "use algo.rollout_skip_threshold; every run counts for itself"


@dataclass(frozen=True, slots=True, kw_only=True)
class LegacyKey:
    """What became of one dotted key.

    Attributes:
        key: The earlier dotted key.
        target: The setting that replaces it; None where it has no effect.
        values: Earlier value -> value of the target, where they differ; an earlier value that is mapped
            to None leaves the target alone.
        objective: The new name counts only under this ``algo.objective``; empty means always.
        advice: For a key without effect: why, and what to use.
        allowed: For a key without effect: the only values that may be ignored; empty means any.
    """

    key: str
    target: str | None = None
    values: Mapping[object, object] = field(default_factory=dict[object, object])
    objective: str = ""
    advice: str = ""
    allowed: tuple[str, ...] = ()


def _renamed(key: str, target: str, values: Mapping[object, object] | None = None) -> LegacyKey:
    return LegacyKey(key=key, target=target, values=values or {})


def _guidance(key: str, target: str) -> LegacyKey:
    return LegacyKey(key=key, target=target, objective="cfg")


def _no_effect(section: str, names: str, advice: str) -> list[LegacyKey]:
    prefix = f"{section}." if section else ""
    return [LegacyKey(key=prefix + name, advice=advice) for name in names.split()]


RENAMED: tuple[LegacyKey, ...] = (
    _renamed("algo.num_ppo_epochs", "algo.num_epochs"),
    _renamed("benchmark_name", "task.benchmark_name"),
    _renamed("env.benchmark_name", "task.benchmark_name"),
    _renamed("training.use_mixed_precision", "policy.overrides.dtype", _BFLOAT16),
    _renamed("distributed.bf16", "policy.overrides.dtype", _BFLOAT16),
    _renamed("distributed.fp16", "policy.overrides.dtype", _BFLOAT16),
    _renamed("distributed.gradient_checkpointing", "policy.gradient_checkpointing"),
    _renamed("enhanced_sampling.enable_smart_filtering", "algo.enable_dynamic_sampling"),
    _renamed("enhanced_sampling.max_sampling_attempts", "algo.max_sampling_attempts"),
    _renamed("enhanced_sampling.save_videos", "video.save"),
    _renamed("enhanced_sampling.video_dir", "video.dir"),
    _renamed("features.save_video", "video.save"),
    _renamed("logging.use_wandb", "logging.wandb"),
    _renamed("training.keep_last", "training.keep_checkpoints"),
    # The objective comes first: the keys below it depend on it.
    _renamed("policy.cfg_enabled", "algo.objective", {True: "cfg", False: None}),
    _guidance("algo.collection_cfg_scale", "algo.cfg.guidance"),
    _guidance("algo.cfg_guidance_scale", "algo.cfg.evaluation_guidance"),
    _guidance("algo.cfg_uncond_weight", "algo.cfg.uncond_weight"),
    _guidance("dataset.windowing_mode", "algo.cfg.windowing_mode"),
    _guidance("dataset.max_windows_per_episode", "algo.cfg.max_windows_per_episode"),
)

NO_EFFECT: tuple[LegacyKey, ...] = (
    *_no_effect("task", "rollouts_per_env", "use algo.rloo_batch_size"),
    *_no_effect("task", "use_test local_tasks", "use task.task_names_to_use"),
    *_no_effect("algo", "rollouts_per_env", "use algo.rloo_batch_size"),
    *_no_effect("algo", "data_batch_size", "use algo.num_minibatches"),
    *_no_effect("algo", "gradient_accumulation_steps", "use algo.micro_batch_size"),
    *_no_effect("algo", "eval_only deterministic temperature", "to evaluate, run ript eval"),
    *_no_effect("algo", "use_val_init", _REAL_STATES),
    *_no_effect("algo", "enable_rollout_stats_tracking rollout_stats_path", _CONTEXTS),
    *_no_effect("policy", "freeze_vision_encoder", "use policy.train_expert_only"),
    *_no_effect("dataset", "num_init_states state_dim", _REAL_STATES),
    *_no_effect(
        "dataset", "window_stride", "use algo.cfg.window_stride, which counts policy steps"
    ),
    *_no_effect(
        "dataset",
        "max_samples_per_trajectory use_so100_processing _target_ seq_len frame_stack obs_seq_len "
        "load_obs_for_pretrain load_next_obs get_pad_mask load_state",
        _DATA,
    ),
    *_no_effect("training", "save_best", _CHECKPOINTS),
    *_no_effect(
        "training",
        "save_optimizer_freq save_optimizer_final",
        "every checkpoint holds the optimizer",
    ),
    *_no_effect(
        "training", "n_steps rollout_steps log_interval save_interval load_obs", _CHECKPOINTS
    ),
    LegacyKey(
        key="training.optimizer.type",
        advice="the optimizer is AdamW, which without training.optimizer.weight_decay is Adam",
        allowed=("Adam", "AdamW"),
    ),
    *_no_effect("training.optimizer", "lr", "use algo.lr"),
    *_no_effect("training.optimizer", "momentum", "the optimizer is AdamW"),
    *_no_effect(
        "distributed",
        "enabled backend find_unused_parameters bucket_cap_mb zero_optimization "
        "sharded_ddp use_fsdp mixed_precision",
        _LAUNCH,
    ),
    *_no_effect(
        "data_parallel",
        "sync_every_n_steps enable_gradient_checkpointing async_data_loading",
        _LAUNCH,
    ),
    *_no_effect(
        "task_distribution",
        "enable_task_sharding balance_tasks_across_gpus min_tasks_per_gpu",
        _LAUNCH,
    ),
    *_no_effect("enhanced_sampling", "debug_sampling", "use logging.level"),
    *_no_effect("features", "enable_parallel_envs enable_true_parallel_envs", _PARALLEL),
    *_no_effect(
        "features",
        "enable_task_polling enable_smart_sampling use_parallel_init_state",
        "tasks and initial states are always drawn in turn",
    ),
    *_no_effect("features", "enable_rollout_stats_tracking rollout_stats_path", _CONTEXTS),
    *_no_effect("features", "enable_file_counter", "nothing is counted through files"),
    *_no_effect("features", "early_stop_percentage", "use algo.max_sampling_attempts"),
    *_no_effect("features", "adaptive_cfg", _GUIDANCE),
    *_no_effect(
        "features.adaptive_cfg_config",
        "min_cfg max_cfg cfg_step low_success_threshold high_success_threshold",
        _GUIDANCE,
    ),
    *_no_effect("features.cfg_sweep_config", "enabled scales eval_episodes", _GUIDANCE),
    *_no_effect("features.dynamic_sampling", "enabled p_min p_max", _SAMPLING),
    *_no_effect(
        "features.early_stop_stuck",
        "enabled pos_delta_eps max_idle_steps",
        "use task.max_episode_length",
    ),
    *_no_effect(
        "features",
        "enable_deterministic_eval calculate_detailed_stats",
        "evaluation is always without noise and in detail",
    ),
    *_no_effect(
        "features.parallel_env_sync",
        "enabled fixed_init_state_id verify_sync sync_tolerance random_sampling",
        "rollout k always starts from its own initial state",
    ),
    *_no_effect("features", "disable_action_clipping", "the simulator clips, as LIBERO does"),
    *_no_effect(
        "evaluation", "save_success_videos save_failure_videos", "use evaluation.save_videos"
    ),
    *_no_effect("evaluation", "detailed_logging", "evaluations/*.json hold every episode"),
    *_no_effect("logging", "group mode project resume save_code", _WANDB),
    *_no_effect("logging", "log_freq log_interval", "every step is logged"),
    *_no_effect("logging", "log_gradients", "update/grad_norm is always logged"),
    *_no_effect("logging", "log_dir", "use output_dir"),
    *_no_effect("logging", "save_detailed_metrics", "metrics.jsonl is always written"),
    *_no_effect("performance", "enable_torch_compile", "use policy.compile"),
    *_no_effect("performance", "max_memory_per_gpu_gb", "see policy.batch_size"),
    *_no_effect("performance", "num_workers pin_memory prefetch_factor", _DATA),
    *_no_effect(
        "fault_tolerance",
        "auto_resume resume_from_latest enable_checkpointing checkpoint_interval "
        "max_checkpoints_to_keep",
        _CHECKPOINTS,
    ),
    *_no_effect("checkpoint", "keep_num save_best save_interval", _CHECKPOINTS),
    *_no_effect("optimizer", "name lr weight_decay", "use algo.lr and training.optimizer"),
    *_no_effect("optimizer", "lr_schedule", "use algo.warmup_steps"),
    *_no_effect("debug", "debug_mode verbose_logging save_rollout_videos", _DEBUG),
    *_no_effect(
        "debug",
        "distributed_debug log_memory_usage profile_performance save_intermediate_results",
        _DEBUG,
    ),
    *_no_effect("env", "use_libero", "the simulator is always LIBERO"),
    *_no_effect("rollout", "enabled interval", "training and evaluation always run rollouts"),
    *_no_effect(
        "rollout",
        "steps n_video n_video_final rollouts_per_env num_parallel_envs max_episode_length",
        "use task and evaluation",
    ),
    *_no_effect(
        "train_dataloader",
        "batch_size num_workers pin_memory drop_last shuffle persistent_workers",
        _DATA,
    ),
    *_no_effect("", "use_libero_demos libero_data_prefix", _REAL_STATES),
    *_no_effect("", "unified_pool_batch_size unified_pool_shuffle", _DATA),
    *_no_effect(
        "data_processing",
        "use_so100_processing windowing_mode window_stride max_windows_per_episode "
        "num_init_states state_dim",
        _DATA,
    ),
    *_no_effect(
        "so100_monitoring",
        "enabled log_sample_statistics log_data_utilization compare_with_legacy",
        _DATA,
    ),
    *_no_effect("", "defaults data_prefix", _PATHS),
    *_no_effect("paths", "data_prefix checkpoint_prefix log_prefix output_prefix", _PATHS),
    *_no_effect(
        "dataset_paths", "init_states libero_goal libero_long libero_object libero_spatial", _PATHS
    ),
    *_no_effect("common", "wandb_project wandb_entity", _WANDB),
)

LEGACY: Mapping[str, LegacyKey] = {row.key: row for row in (*RENAMED, *NO_EFFECT)}

# Wherever such a name stands, its value means nothing, so it may as well stand twice.
MEANINGLESS_NAMES = frozenset(row.key.rsplit(".", 1)[-1] for row in NO_EFFECT) - {
    name.rsplit(".", 1)[-1] for name in (*known_keys(TrainConfig), *(row.key for row in RENAMED))
}
