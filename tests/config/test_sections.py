"""Sections inside sections: what their numbers mean, and which are refused."""

import pytest

from pi0.ript.config.sections import NoiseConfig, ValueConfig


class TestNoise:
    @pytest.mark.parametrize(
        ("denoise_steps", "final_std", "scale"),
        [(4, 0.144338, 0.5), (5, 0.111803, 0.5), (10, 0.1, 0.948683)],
    )
    def test_final_std_is_the_standard_deviation_of_the_last_step(
        self, denoise_steps: int, final_std: float, scale: float
    ):
        # std = a * d / sqrt(1 - d), d = 1 / S; so a = 0.1 * sqrt(0.9) / 0.1 = 0.949 for ten steps.
        noise = NoiseConfig(final_std=final_std)
        assert noise.scale_at(1, denoise_steps) == pytest.approx(scale, rel=1e-4)

    def test_it_falls_linearly_and_then_stays(self):
        # 0.4 falling to a quarter over 3 steps: 0.4, 0.3, 0.2, 0.1, 0.1.
        noise = NoiseConfig(scale=0.4, anneal_to=0.25, anneal_steps=3)
        found = [noise.scale_at(step, 4) for step in range(1, 6)]
        assert found == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.1])

    @pytest.mark.parametrize("settings", [
        {"scale": 0.0},
        {"final_std": 0.0},
        {"final_std": 1.01},
        {"scale": 0.5, "final_std": 0.1},
        {"anneal_to": 0.5},
        {"anneal_steps": 3},
        {"anneal_to": 0.0, "anneal_steps": 3},
    ])  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, settings: dict[str, float]):
        with pytest.raises(ValueError, match=r"^algo\.noise"):
            NoiseConfig(**settings)


class TestValue:
    @pytest.mark.parametrize(("key", "value"), [
        ("gamma", 0.0), ("gamma", 1.01), ("gae_lambda", -0.1), ("gae_lambda", 1.01), ("weight", 0.0), ("lr", 0.0),
        ("epochs", 0), ("warmup_batches", -1),
    ])  # fmt: skip
    def test_what_makes_no_sense_is_refused(self, key: str, value: float):
        with pytest.raises(ValueError, match=rf"^algo\.value\.{key} .*{value}"):
            ValueConfig(**{key: value})

    def test_a_weight_that_nothing_is_weighed_with_is_refused(self):
        with pytest.raises(ValueError, match=r"algo\.value\.weight is 0\.5, but .*baseline none"):
            ValueConfig(baseline="none", weight=0.5)
