"""A real LIBERO frame is drawn, or the reason names why not."""

from pathlib import Path

import numpy as np
import pytest
from libero.libero import get_libero_path
from PIL import Image

from pi0.ript.diagnose.simulator import check_assets, check_rendering, egl_devices, exactness
from tests.diagnose.damage import findings_of


@pytest.mark.libero
@pytest.mark.slow
def test_a_frame_of_both_cameras_is_written_upright(tmp_path: Path):
    rendering, devices, exact = check_rendering(tmp_path / "frame.png")

    assert (rendering.status, devices.status, exact.status) == ("ok", "ok", "ok"), exact.text
    assert str(tmp_path / "frame.png") in rendering.text
    image = np.asarray(Image.open(tmp_path / "frame.png"))
    assert image.shape == (256, 512, 3)
    # In the left half, agentview, the dark robot stands above the wooden table.
    assert image[:64, 64:192].mean() < image[192:, 64:192].mean()


@pytest.mark.libero
@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"MUJOCO_EGL_DEVICE_ID": "99"}, "unset MUJOCO_EGL_DEVICE_ID"),
        (
            {"__EGL_VENDOR_LIBRARY_FILENAMES": "/no/driver.json"},
            "=/no/driver.json, which says where",
        ),
    ],
)
def test_missing_gl_is_found_and_no_image_is_left(tmp_path: Path, environment, text):
    image = tmp_path / "frame.png"

    (finding,) = findings_of(f"simulator.check_rendering(Path('{image}'))", **environment)

    assert (finding["name"], finding["status"]) == ("rendering", "error")
    assert text in finding["text"]
    assert finding["fix"] == "do what the line says"
    assert not image.exists()


def test_every_task_has_its_files():
    assert check_assets().status == "ok"


def test_missing_task_files_are_found(tmp_path: Path):
    # LIBERO finds its files through this; the folders are there, what is in them is not.
    (tmp_path / "config.yaml").write_text(f"bddl_files: {tmp_path}\n")
    for folder in Path(get_libero_path("bddl_files")).iterdir():
        (tmp_path / folder.name).mkdir()

    (finding,) = findings_of("[simulator.check_assets()]", LIBERO_CONFIG_PATH=str(tmp_path))

    assert finding["status"] == "error"
    assert "290 of 290 tasks lack files" in finding["text"]
    assert finding["fix"].startswith("pip install --force-reinstall")


def test_paths_of_another_libero_are_no_matter_of_the_installation(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("assets: /gone\n")

    (finding,) = findings_of("[simulator.check_assets()]", LIBERO_CONFIG_PATH=str(tmp_path))

    assert (finding["status"], finding["fix"]) == ("error", "do what the line says")
    assert f"LIBERO_CONFIG_PATH={tmp_path}" in finding["text"]


def test_drawing_in_software_beside_a_gpu_is_a_warning():
    assert egl_devices([0, None], "NVIDIA H200", 0).status == "ok"
    assert egl_devices([None], "llvmpipe (LLVM 15)", None).status == "ok"
    finding = egl_devices([0, None], "llvmpipe (LLVM 15)", 0)
    assert finding.status == "warning"
    assert "0 = CUDA 0, 1 = software" in finding.text


def drawn(*, image=0.0, state=0.0, difference=""):
    is_reference = image <= 1 and state <= 1e-9
    far = {"libero_object/0/0/0": {"image": image, "state": state}}
    return {"renderer": "softpipe, 3.3", "deviations": far, "is_reference": is_reference,
            "difference": difference}  # fmt: skip


def test_images_far_from_the_references_name_the_driver():
    finding = exactness(drawn(image=36.3))

    assert finding.status == "error"
    assert "softpipe, 3.3 is too far from the reference situations" in finding.text
    assert "36 of 255" in finding.text


def test_an_engine_that_differs_from_libero_is_named_first():
    finding = exactness(drawn(image=36.3, difference="the engine differs"))

    assert (finding.status, finding.text) == ("error", "the engine differs")
