"""``ript probe``: wrong flags are one line, the report ends with what to type."""

import pytest

from pi0.ript.diagnose.exploration import NoiseGain, StepGain
from pi0.ript.scripts.probe import main, parse, report, to_config


@pytest.mark.parametrize(("flag", "value"), [
    ("observations", "0"), ("draws", "1"), ("denoise_steps", "1"), ("noise_scale", "0"),
    ("noise_scale", "nan"), ("noise_scale", "inf"),
])  # fmt: skip
def test_a_number_that_makes_no_sense_is_refused_by_name(flag: str, value: str):
    with pytest.raises(ValueError, match=f"--{flag} must be"):
        parse(["--suite", "libero_goal", f"--{flag}", value])


@pytest.mark.parametrize(
    ("chosen", "complaint"),
    [(["--suite", "libero_gaol"], "libero_gaol"), (["--suite", "libero_goal", "--tasks", "70"], "70")],
)  # fmt: skip
def test_what_no_task_is_called_is_refused_before_a_policy_is_loaded(chosen, complaint):
    with pytest.raises(ValueError, match=complaint):
        main([*chosen, "--policy", "nowhere"])


def test_it_probes_the_policy_as_it_would_be_trained():
    config = to_config(parse(["--suite", "libero_goal", "--tasks", "7", "--protocol", "lerobot"]))

    assert config.task.task_names_to_use == ("7",)
    assert config.policy.protocol == "lerobot"


def test_the_report_names_erased_steps_and_what_to_type():
    def step(number: int, injected: float, surviving: float) -> StepGain:
        return StepGain(step=number, injected=injected, surviving=surviving, gripper_range=0.1)

    # The first step's 0.5 leaves 0.01 (2 %), the last step's 0.05 all of it: less than the published 0.08.
    gain = NoiseGain(
        noise_scale=0.5,
        steps=(step(0, 0.5, 0.01), step(1, 0.05, 0.05)),
        all_steps=0.05,
        initial_noise=0.007,
    )

    text = report(gain)

    assert "erased (less than 5% survives): [0]" in text
    assert "--algo.noise.final_std 0.120" in text
    assert "with one, 1 of 2 policy steps would explore nothing" in text


@pytest.mark.libero
def test_it_measures_the_embedded_policy_on_real_images(capsys: pytest.CaptureFixture[str]):
    main(["--suite", "libero_goal", "--tasks", "7", "--observations", "2", "--draws", "4"])

    assert "--algo.noise.final_std" in capsys.readouterr().out
