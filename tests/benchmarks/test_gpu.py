"""The program for a machine with a GPU, rehearsed without one."""

import json

import pytest
import torch

from benchmarks import gpu


def test_networks_are_measured_and_every_part_is_written(tmp_path, capsys):
    path = tmp_path / "found.json"
    parts = ["sampling", "company", "learning"]

    assert gpu.main(["--rehearse", "--json", str(path), "--parts", *parts]) == 0

    found = json.loads(path.read_text())["parts"]
    assert list(found) == parts
    assert found["sampling"]["ours_4_ms"] > 0
    assert found["sampling"]["difference_4"] < 1e-4
    assert found["company"]["moved"] < 1e-5
    assert found["company"]["alone"] < 1e-5 < found["company"]["largest_action"]
    assert found["learning"]["samples_per_s"] > 0
    assert "sampling" in capsys.readouterr().out


def test_a_part_that_fails_leaves_the_others(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory")

    monkeypatch.setitem(gpu.PARTS, "sampling", fail)
    path = tmp_path / "found.json"
    assert gpu.main(["--rehearse", "--json", str(path), "--parts", "sampling", "learning"]) == 1
    found = json.loads(path.read_text())["parts"]
    assert found["sampling"]["error"] == "no memory"
    assert "samples_per_s" in found["learning"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_to_type(capsys):
    with pytest.raises(SystemExit):
        gpu.main([])
    assert "--rehearse" in capsys.readouterr().err
