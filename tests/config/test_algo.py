"""The section ``algo``: noise, presets, and knobs that would have no effect."""

import pytest

from pi0.ript.config.algo import AlgoConfig, ObjectiveName
from pi0.ript.config.base import ConfigError
from pi0.ript.config.load import load_config, read_config, save_config
from pi0.ript.config.schema import TrainConfig, TrainingConfig
from pi0.ript.config.sections import CfgConfig, NftConfig, NoiseConfig, ValueConfig


@pytest.fixture
def load(tmp_path):
    """Return a function that loads ``algo`` settings from a file and overrides."""

    def load_algo(text: str, *overrides: str) -> AlgoConfig:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return load_config(["--config_path", str(path), *overrides]).algo

    return load_algo


class TestNoise:
    @pytest.mark.parametrize(
        ("objective", "scale"),
        [("flow_sde", 0.5), ("nft", 0.5), ("cfg", 0.103923), ("bc", 0.103923)],
    )
    def test_rules_that_imitate_explore_with_little_of_it_unless_said_otherwise(
        self, objective: ObjectiveName, scale: float
    ):
        # final_std 0.03 at four steps: a = 0.03 * sqrt(0.75) / 0.25 = 0.1039.
        sampling = AlgoConfig(objective=objective).sampling(1, denoise_steps=4)
        assert sampling.noise_scale == pytest.approx(scale, rel=1e-4)

    def test_what_is_said_counts_for_every_rule(self):
        algo = AlgoConfig(objective="bc", noise=NoiseConfig(scale=0.5))
        assert algo.sampling(1, denoise_steps=4).noise_scale == 0.5

    def test_a_default_is_annealed_as_well(self):
        algo = AlgoConfig(objective="bc", noise=NoiseConfig(anneal_to=0.5, anneal_steps=1))
        first, second = (algo.sampling(step, denoise_steps=4).noise_scale for step in (1, 2))
        assert second == pytest.approx(first / 2)


class TestBadSettings:
    @pytest.mark.parametrize(("key", "value"), [
        ("rloo_batch_size", 0), ("ppo_clip_range", -0.2), ("ppo_clip_high", 0.0), ("ppo_clip_range", 1.5),
        ("dual_clip", 1.0), ("kl_stop", 0.0), ("reference_weight", -1.0), ("draws_per_row", 0),
        ("rollout_skip_threshold", -1),
    ])  # fmt: skip
    def test_the_message_names_key_and_value(self, key: str, value: float):
        with pytest.raises(ValueError, match=rf"algo\.{key} .*{value}"):
            AlgoConfig(**{key: value})

    def test_one_rollout_per_state_cannot_disagree_with_itself(self):
        with pytest.raises(ValueError, match="enable_dynamic_sampling"):
            AlgoConfig(rloo_batch_size=1)
        assert AlgoConfig(rloo_batch_size=1, enable_dynamic_sampling=False).rloo_batch_size == 1

    def test_an_unknown_objective_is_refused_with_the_known_ones(self, load):
        with pytest.raises(ConfigError, match="flow_sde, nft, cfg, bc"):
            load("algo: {objective: ppo}")


class TestKnobsThatAreNotRead:
    @pytest.mark.parametrize(("objective", "settings"), [
        ("flow_sde", {"draws_per_row": 3}),
        ("flow_sde", {"nft": NftConfig(beta=0.1)}),
        ("flow_sde", {"cfg": CfgConfig(guidance=1.5)}),
        ("nft", {"ppo_clip_range": 0.1}),
        ("nft", {"kl_stop": 0.1}),
        ("cfg", {"dual_clip": None}),
        ("bc", {"scored_steps": "one"}),
        ("bc", {"cfg": CfgConfig(windowing_mode="last")}),
        ("bc", {"critic": "value"}),
    ])  # fmt: skip
    def test_setting_one_is_an_error_that_names_who_reads_it(self, objective: str, settings: dict):
        (key,) = settings
        with pytest.raises(ValueError, match=rf"algo\.{key} is set, but objective {objective}"):
            AlgoConfig(objective=objective, **settings)

    @pytest.mark.parametrize("objective", ["flow_sde", "nft", "cfg", "bc"])
    def test_defaults_belong_to_every_objective(self, objective: str):
        assert AlgoConfig(objective=objective).objective == objective


class TestReplay:
    def test_it_is_off_unless_asked_for(self):
        assert AlgoConfig().replay_steps == 0
        assert AlgoConfig(replay_steps=3, replay_weighting="decoupled").replay_steps == 3

    def test_imitation_weighs_nothing_and_so_needs_no_siblings_and_no_equal_noise(self):
        noise = NoiseConfig(final_std=0.1, anneal_to=0.5, anneal_steps=9)
        alone = {"rloo_batch_size": 1, "enable_dynamic_sampling": False}
        assert AlgoConfig(objective="bc", replay_steps=2, noise=noise, **alone).replay_steps == 2
        with pytest.raises(ValueError, match=r"algo\.replay_weighting is set, but objective bc"):
            AlgoConfig(objective="bc", replay_steps=2, replay_weighting="decoupled")

    @pytest.mark.parametrize(("settings", "message"), [
        ({"replay_steps": -1}, r"algo\.replay_steps must be >= 0, got -1"),
        ({"objective": "nft"}, r"algo\.replay_steps is set, but objective nft does not read it"),
        ({"objective": "cfg"}, r"algo\.replay_steps is set, but objective cfg does not read it"),
        ({"rloo_batch_size": 1, "enable_dynamic_sampling": False}, r"algo\.rloo_batch_size to >= 2, got 1"),
        ({"noise": NoiseConfig(anneal_to=0.5, anneal_steps=9)}, r"set algo\.noise\.anneal_to to 1"),
        ({"critic": "value"}, r"set algo\.critic to none or algo\.replay_steps to 0"),
        ({"replay_steps": 0, "replay_weighting": "decoupled"}, r"algo\.replay_steps is 0: set it to 1 or more"),
    ])  # fmt: skip
    def test_what_it_cannot_make_up_for_is_refused_in_one_line(self, settings: dict, message: str):
        with pytest.raises(ValueError, match=message) as caught:
            AlgoConfig(**{"replay_steps": 2, **settings})
        assert "\n" not in str(caught.value)

    def test_collecting_ahead_is_refused(self):
        with pytest.raises(
            ValueError, match=r"set training\.overlap to false or algo\.replay_steps"
        ):
            TrainConfig(algo=AlgoConfig(replay_steps=1), training=TrainingConfig(overlap=True))


class TestCritic:
    def test_its_settings_are_read_only_with_it(self):
        with pytest.raises(ValueError, match=r"algo\.value is set, but algo\.critic none"):
            AlgoConfig(value=ValueConfig(gamma=0.9))
        assert AlgoConfig(critic="value", value=ValueConfig(gamma=0.9)).value.gamma == 0.9

    def test_siblings_need_siblings(self):
        alone = {"critic": "value", "rloo_batch_size": 1, "enable_dynamic_sampling": False}
        with pytest.raises(ValueError, match=r"algo\.value\.baseline siblings .*rloo_batch_size 1"):
            AlgoConfig(**alone)
        assert AlgoConfig(**alone, value=ValueConfig(baseline="none")).critic == "value"

    @pytest.mark.parametrize("mode", ["last", "random", "slide"])
    def test_it_follows_whole_episodes(self, mode: str):
        with pytest.raises(ValueError, match=rf"windowing_mode {mode}, which leaves some out"):
            AlgoConfig(objective="cfg", critic="value", cfg=CfgConfig(windowing_mode=mode))


class TestPresets:
    # K, G, passes, optimizer steps per pass, clip, learning rate, left out when solved
    @pytest.mark.parametrize(("name", "expected"), [
        ("parity", (8, 8, 2, 2, 0.2, 5e-6, 0)),
        ("paper", (8, 24, 1, 12, 0.1, 1e-5, 0)),
        ("released", (8, 24, 1, 12, 0.1, 5e-5, 3)),
    ])  # fmt: skip
    def test_a_preset_has_the_published_values(self, load, name: str, expected: tuple):
        algo = load(f"algo: {{preset: {name}}}")

        assert expected == (
            algo.rloo_batch_size, algo.demo_batch_size, algo.num_epochs, algo.num_minibatches,
            algo.ppo_clip_range, algo.lr, algo.rollout_skip_threshold,
        )  # fmt: skip
        assert algo.ppo_clip_high == algo.ppo_clip_range
        assert (algo.dual_clip, algo.kl_stop) == (None, None)
        assert (algo.grad_norm_clip, algo.loss_aggregation) == (1.0, "trajectory")
        assert algo.scored_steps == ("one" if name == "parity" else "all")
        assert algo.sampling(1, 4).noise_scale == 0.5

    def test_ppo_has_the_published_values(self, load):
        algo = load("algo: {preset: ppo}")

        assert (algo.rloo_batch_size, algo.demo_batch_size, algo.num_epochs) == (1, 512, 4)
        assert algo.num_minibatches == 512 * 240 // 5 // 2048
        assert (algo.ppo_clip_range, algo.ppo_clip_high, algo.dual_clip) == (0.2, 0.2, 3.0)
        assert (algo.lr, algo.value.lr) == (5e-6, 1e-4)
        assert (algo.value.gamma, algo.value.gae_lambda) == (0.99, 0.95)
        assert (algo.critic, algo.value.baseline) == ("value", "none")
        assert (algo.scored_steps, algo.sampling(1, 4).noise_scale) == ("one", 0.5)

    def test_a_key_of_a_section_leaves_the_others_to_the_preset(self, load):
        algo = load("algo: {preset: ppo, value: {lr: 3e-4}}", "--algo.value.gamma=0.9")
        assert (algo.value.lr, algo.value.gamma, algo.value.baseline) == (3e-4, 0.9, "none")

    def test_a_preset_with_a_rule_that_does_not_read_its_knobs_is_refused_by_name(self, load):
        with pytest.raises(ConfigError, match=r"set by you or by algo\.preset parity, but"):
            load("algo: {preset: parity, objective: nft}")

    def test_given_keys_win_over_the_preset(self, load):
        algo = load("algo: {preset: parity, lr: 1e-4}", "--algo.num_epochs=7")
        assert (algo.lr, algo.num_epochs, algo.scored_steps) == (1e-4, 7, "one")

    def test_it_can_be_given_on_the_command_line(self, load):
        assert load("algo: {lr: 1e-4}", "--algo.preset=paper").ppo_clip_range == 0.1

    def test_a_resolved_configuration_reads_back_the_same(self, tmp_path, load):
        config = TrainConfig(algo=load("algo: {preset: released}"))
        save_config(config, tmp_path / "resolved.yaml")
        assert read_config(tmp_path / "resolved.yaml") == config

    def test_an_unknown_preset_is_refused(self, load):
        with pytest.raises(ConfigError, match="none, parity, ppo, paper, released"):
            load("algo: {preset: grpo}")
