"""launches.jsonl says what ran when, so that a number can be traced to its versions."""

from importlib.metadata import version

from pi0.ript.report.launches import processor_name, read_launches, record_launch


def test_launch_names_versions_and_device(tmp_path):
    record_launch(tmp_path, 0, "cpu", driver={"GL renderer": "llvmpipe"})
    (launch,) = read_launches(tmp_path)[0]
    assert (launch.step, launch.device) == (0, "cpu")
    assert launch.versions["torch"] == version("torch")
    assert set(launch.versions) >= {"python", "mujoco", "robosuite", "transformers"}
    assert set(launch.versions) >= {
        "numba",
        "llvmlite",
        "scipy",
    }  # they decide last bits of physics
    assert launch.versions["GL renderer"] == "llvmpipe"  # it decides the last bits of images
    assert launch.machine.startswith(processor_name())


def test_every_launch_is_kept(tmp_path):
    for step in (0, 20, 10):
        record_launch(tmp_path, step, "cpu", driver={})
    assert [launch.step for launch in read_launches(tmp_path)[0]] == [0, 20, 10]


def test_run_without_records_has_no_launches(tmp_path):
    assert read_launches(tmp_path) == ([], [])
