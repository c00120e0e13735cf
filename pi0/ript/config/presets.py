"""Published settings by name: ``algo.preset`` fills in the keys of ``algo`` that are not given.

Only what carries over to a flow-matching policy is set; what belongs to another model's layers is not.
"""

from collections.abc import Mapping
from typing import cast

from pi0.ript.config.decode import Raw

PRESETS: dict[str, dict[str, object]] = {
    # pi_RL's critic-free recipe for pi0 on LIBERO: RLinf, examples/embodiment/config (GRPO, pi0) and
    # openpi_action_model.py: one noisy denoise step, noise level 0.5 (the default here), groups of 8, clip 0.2 /
    # 0.2, no dual clip and no KL stop, log-probabilities of whole chunks, 2 epochs, lr 5e-6, every trajectory
    # weighing the same. One difference: RLinf draws the noisy step once per batch, here per policy step.
    "parity": {
        "scored_steps": "one",
        "rloo_batch_size": 8,
        "num_epochs": 2,
        "ppo_clip_range": 0.2,
        "ppo_clip_high": 0.2,
        "dual_clip": None,
        "kl_stop": None,
        "mask_unexecuted": False,
        "lr": 5.0e-6,
        "grad_norm_clip": 1.0,
        "loss_aggregation": "trajectory",
    },
    # pi_RL's PPO for pi0 on LIBERO: RLinf at a3816b5, examples/embodiment/config/libero_spatial_ppo_openpi.yaml:
    # group_size 1, filter_rewards false; 64 environments x 8 rollout epochs = 512 episodes; update_epoch 4;
    # 240 / 5 steps x 512 = 24,576 samples in batches of global_batch_size 2048 = 12; clip_ratio_low and _high
    # 0.2, clip_ratio_c 3; optim.lr 5e-6 without warm-up, clip_grad 1; loss_agg_func token-mean; gae with gamma
    # 0.99 and gae_lambda 0.95, normalize_advantages, no value carried on beyond the step limit; value_lr 1e-4,
    # critic_warmup_steps 0. Sampler as in parity. What differs: their value is averaged over the noisy denoise
    # steps and here read once, without noise; their head reads features alone, here normalized ones and the
    # elapsed time too; they clip the change of a value (value_clip 0.2), here it is not; their Huber loss
    # with delta 10 is a squared error for errors of about 1. For pi0.5 they make one pass and read the prefix.
    "ppo": {
        "scored_steps": "one",
        "rloo_batch_size": 1,
        "enable_dynamic_sampling": False,
        "demo_batch_size": 512,
        "num_epochs": 4,
        "num_minibatches": 12,
        "ppo_clip_range": 0.2,
        "ppo_clip_high": 0.2,
        "dual_clip": 3.0,
        "kl_stop": None,
        "mask_unexecuted": False,
        "lr": 5.0e-6,
        "warmup_steps": 0,
        "grad_norm_clip": 1.0,
        "loss_aggregation": "token",
        "critic": "value",
        "value": {
            "baseline": "none",
            "gamma": 0.99,
            "gae_lambda": 0.95,
            "lr": 1.0e-4,
            "epochs": 4,
            "warmup_batches": 0,
        },
    },
    # RIPT-VLA, arXiv 2505.17016, settings of OpenVLA-OFT, the vision-language-action policy of the paper:
    # K = 8, 24 contexts, one pass, clip 0.1, 4 GPUs x 4 episodes per optimizer step (192 / 16 = 12),
    # 1e-5 for the action head.
    "paper": {
        "rloo_batch_size": 8,
        "demo_batch_size": 24,
        "num_epochs": 1,
        "num_minibatches": 12,
        "ppo_clip_range": 0.1,
        "ppo_clip_high": 0.1,
        "dual_clip": None,
        "kl_stop": None,
        "lr": 1.0e-5,
        "rollout_skip_threshold": 0,
    },
    # github.com/Ariostgx/ript-vla, the OpenVLA-OFT scripts for spatial, object and long: as in the paper,
    # but 5e-5 for the action head and solved contexts left out three times. They clip the gradient norm at 1
    # and divide each episode by its length, of which the paper says nothing: there the defaults hold, which
    # are the same.
    "released": {
        "rloo_batch_size": 8,
        "demo_batch_size": 24,
        "num_epochs": 1,
        "num_minibatches": 12,
        "ppo_clip_range": 0.1,
        "ppo_clip_high": 0.1,
        "dual_clip": None,
        "kl_stop": None,
        "lr": 5.0e-5,
        "grad_norm_clip": 1.0,
        "loss_aggregation": "trajectory",
        "rollout_skip_threshold": 3,
    },
}


def with_preset(data: object) -> object:
    """Return the data of a configuration with the keys of its preset filled in; given keys win.

    What is no section or no preset is returned as it is, for decoding to refuse.
    """
    whole = _section(data)
    given = _section(whole.get("algo"))
    name = given.get("preset")
    preset = PRESETS.get(name.text if isinstance(name, Raw) else str(name))
    return data if preset is None else {**whole, "algo": _filled_in(given, preset)}


def _filled_in(
    given: Mapping[object, object], preset: Mapping[str, object]
) -> dict[object, object]:
    """Return the given keys and those of the preset that are not given, in nested sections too."""
    filled: dict[object, object] = {**preset, **given}
    for name in preset.keys() & given.keys():
        inner = preset[name]
        if isinstance(inner, dict) and isinstance(given[name], Mapping):
            filled[name] = _filled_in(_section(given[name]), cast("dict[str, object]", inner))
    return filled


def _section(data: object) -> Mapping[object, object]:
    return cast("Mapping[object, object]", data) if isinstance(data, Mapping) else {}
