"""``ript inspect``: where each choice came from, what does not fit, wrong observations in one line."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import torch as torch_file
from safetensors.numpy import save_file

from pi0.ript.scripts.exits import run_main
from pi0.ript.scripts.inspect_policy import main, read_observation
from pi0.tiny import tiny_card
from tests.formats.checkpoints import edit_json, reference_model, write_lerobot, write_openpi
from tests.policy_parts import raises_one_line

METADATA = {"task": "open the drawer"}
SIZE = 256  # what the openpi protocol renders


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return write_openpi(tmp_path_factory.mktemp("openpi"), reference_model())


@pytest.fixture
def observation(tmp_path) -> Path:
    return write_observation(tmp_path)


def write_observation(
    folder: Path, metadata: dict[str, str] | None = METADATA, **changes: object
) -> Path:
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    arrays = {
        "agentview": image,
        "robot0_eye_in_hand": image[::-1],
        "proprio": np.array([-0.05, 0.03, 0.76, 1.0, 0.0, 0.0, 0.0, 0.03, -0.03]),
    }
    arrays |= changes
    path = folder / "observation.safetensors"
    held = {name: np.ascontiguousarray(each) for name, each in arrays.items() if each is not None}
    save_file(held, path, metadata=metadata)
    return path


def test_every_key_says_where_it_came_from(source, observation, capsys):
    main([str(source), "--observation", str(observation), "--override", "execute_steps=2"])
    lines = capsys.readouterr().out.splitlines()
    rows = lines[1 : lines.index(next(line for line in lines if line.startswith("state ")))]
    origins = {line.split()[0]: line for line in rows}

    assert origins["execute_steps"].endswith("chosen by you")
    assert origins["horizon"].endswith("config.json")
    assert origins["norm_mode"].endswith("preset openpi")
    assert origins["gripper"].endswith("the same in both presets")
    assert origins["layout"].endswith("names of the tensors")
    assert origins["statistics"].endswith("norm_stats.json")
    assert lines[-1].startswith(("nothing found", "first thing that does not fit"))


def test_what_pipelines_of_lerobot_say_is_named_after_them(tmp_path, capsys):
    folder = tmp_path / "lerobot"
    folder.mkdir()
    write_lerobot(folder, reference_model())
    path = write_observation(tmp_path, agentview=np.zeros((360, 360, 3), np.uint8),
                             robot0_eye_in_hand=np.zeros((360, 360, 3), np.uint8))  # fmt: skip
    main([str(folder), "--observation", str(path)])
    lines = capsys.readouterr().out.splitlines()

    assert any(
        line.split()[:1] == ["norm_mode"] and "policy_preprocessor" in line for line in lines
    )


def test_statistics_in_millimeters_are_the_first_thing_that_does_not_fit(
    tmp_path, observation, capsys
):
    folder = write_openpi(tmp_path / "openpi", reference_model())
    (path,) = folder.rglob("norm_stats.json")
    stats = json.loads(path.read_text())["norm_stats"]
    stats["state"]["mean"][2] = 765.0
    stats["state"]["std"][2] = 378.0
    edit_json(path, norm_stats=stats)

    flags = ["--observation", str(observation), "--override", "extra_delta=false"]

    assert main([str(folder), *flags]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("first thing that does not fit: statistics of state: position")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agentview": None}, ["agentview", "missing"]),
        ({"agentview": np.zeros((8, 8, 3), np.uint8)}, ["agentview", "[256, 256, 3]", "[8, 8, 3]"]),
        ({"proprio": np.zeros(8)}, ["proprio", "9 finite numbers", "[8]"]),
        ({"proprio": np.full(9, np.nan)}, ["proprio", "finite"]),
        ({"metadata": None}, ["instruction", "metadata="]),
        ({"metadata": {"task": ""}}, ["instruction"]),
    ],
)
def test_a_wrong_observation_is_one_line_and_exit_2(source, tmp_path, capsys, changes, words):
    path = write_observation(tmp_path, **changes)
    with pytest.raises(SystemExit) as end:
        run_main(main, [str(source), "--observation", str(path)])
    assert end.value.code == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    assert str(path) in line
    for word in words:
        assert word in line


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float8_e4m3fn])
def test_a_number_format_that_numpy_does_not_know_is_named(tmp_path, kind):
    path = tmp_path / "observation.safetensors"
    torch_file.save_file({"proprio": torch.zeros(9).to(kind)}, path, metadata=METADATA)
    with pytest.raises(ValueError, match=r"proprio is (BF16|F8_E4M3), which NumPy") as found:
        read_observation(path, tiny_card())
    assert raises_one_line(found.value, str(path), "uint8", "float64")


@pytest.mark.libero
def test_the_embedded_policy_fits_and_is_shown_on_the_simulator(capsys):
    assert main(["builtin"]) == 0
    assert "turn on the stove" in capsys.readouterr().out
