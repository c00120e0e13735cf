"""The statistics and files that every benchmark shares."""

import argparse
import json

import pytest

from benchmarks.parts.measure import interleaved, median_ratio, output_file, table, write_json


def test_sides_are_measured_in_turns():
    order = []

    def sample(name, value):
        order.append(name)
        return value

    sides = {"slow": lambda: sample("slow", 2.0), "fast": lambda: sample("fast", 1.0)}

    assert interleaved(sides, 2) == {"slow": [2.0, 2.0], "fast": [1.0, 1.0]}
    assert order == ["slow", "fast", "slow", "fast"]


def test_one_busy_moment_does_not_change_a_ratio_of_medians():
    # medians 4 and 2, whatever the outlier 100
    assert median_ratio([4.0, 4.0, 100.0], [2.0, 2.0, 2.0]) == 2.0


def test_a_table_aligns_its_columns():
    text = table(("name", "ms"), [["step", 0.12345], ["restore", 12]])

    assert text.splitlines() == [
        "name        ms",
        "--------------",
        "step     0.123",
        "restore     12",
    ]


def test_figures_are_written_with_their_machine(tmp_path):
    write_json(tmp_path / "found.json", {"speedup": 2.0}, is_quick=True)

    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["speedup"], found["is_quick"]) == (2.0, True)
    assert {"cpu", "cores", "memory_gib", "mujoco"} <= set(found["machine"])


def test_a_place_to_write_is_checked_before_anything_is_measured(tmp_path):
    assert output_file(str(tmp_path / "deep" / "found.json")).parent.is_dir()
    with pytest.raises(argparse.ArgumentTypeError, match="is a folder, expected a file"):
        output_file(str(tmp_path))
