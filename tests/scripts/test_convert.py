"""``ript convert`` and ``ript eval`` on a folder of openpi: out again, and into the simulator."""

import json
from pathlib import Path

import pytest

from pi0.ript.scripts.convert import main
from pi0.ript.scripts.exits import run_main
from tests.formats.checkpoints import reference_model, write_openpi
from tests.programs import run_program

RIPT = "pi0.ript.scripts.cli:dispatch"


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_openpi(tmp_path_factory.mktemp("openpi"), reference_model())


def test_convert_writes_the_folder_and_names_what_it_cannot_hold(source, tmp_path):
    done = run_program(RIPT, ["convert", source, "out", "--format", "lerobot"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/config.json").read_text())["chunk_size"] == 6
    assert "resize is openpi here, lerobot uses lerobot" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nowhere", "out", "--format", "openpi"], ["nowhere", "does not exist"]),
        (["builtin", "out", "--format", "openpi"], ["rotation6d"]),
        (["SOURCE", ".", "--format", "openpi"], ["exists"]),
        (["SOURCE", "out", "--format", "openpi", "--override", "horizn=3"], ["horizn", "horizon"]),
        (["SOURCE", "out", "--format", "openpi", "--norm_stats_path", "no.json"], ["no.json"]),
    ],
)
def test_bad_input_is_one_line_and_exit_2(source, tmp_path, monkeypatch, capsys, arguments, named):
    monkeypatch.chdir(tmp_path)
    arguments = [str(source) if text == "SOURCE" else text for text in arguments]
    with pytest.raises(SystemExit) as end:
        run_main(main, arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert line.startswith("error:")
    for word in named:
        assert word in line
    assert not list(tmp_path.iterdir())


@pytest.mark.libero
@pytest.mark.slow
def test_a_folder_of_openpi_acts_in_the_simulator_with_two_exact_cameras(source, tmp_path):
    done = run_program(
        RIPT,
        ["eval", "--policy", source, "--suite", "libero_goal", "--tasks", "7", "--episodes", "2",
        "--num_parallel_envs", "2", "--max_episode_length", "12",
        "--output_dir", "out"],
        tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "out/results.json").read_text())
    card = results["settings"]["policy_card"]
    assert card["layout"] == card["protocol"] == card["resize"] == "openpi"
    assert card["cameras"] == ["agentview", "robot0_eye_in_hand"]
    assert card["denoise_steps"] == 10  # what openpi uses, because nothing else was given
    assert (card["render_size"], card["render_quality"]) == (256, "exact")
    for episode in results["episodes"]:
        # openpi observes again after 5 of its 6 actions: at steps 0, 5 and 10 of 12
        assert (episode["outcome"], episode["num_steps"]) == ("failure", 12)
        assert episode["num_decisions"] == 3
