"""A list of checksums says exactly what a folder holds."""

import subprocess

import pytest

from pi0.ript.train.checkpoints.checksums import find_difference, write_checksums


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "inner" / "b.txt").write_text("second")
    write_checksums(tmp_path)
    return tmp_path


def test_untouched_folder_has_no_difference(folder):
    assert find_difference(folder) == ""


def test_sha256sum_agrees(folder):
    done = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "a.txt: OK\ninner/b.txt: OK\n")


def test_every_flipped_bit_of_the_list_itself_is_found(folder):
    sums = folder / "SHA256SUMS"
    content = sums.read_bytes()
    for position in range(len(content)):
        for bit in range(8):
            changed = bytes([content[position] ^ 1 << bit])
            sums.write_bytes(content[:position] + changed + content[position + 1 :])
            assert find_difference(folder), f"bit {bit} of byte {position}"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda f: (f / "a.txt").write_text("fjrst"), "a.txt does not hold"),
        (lambda f: (f / "a.txt").unlink(), "a.txt is missing"),
        (lambda f: (f / "c.txt").write_text("third"), "c.txt is not in"),
        (lambda f: (f / "SHA256SUMS").unlink(), "SHA256SUMS is missing"),
        (lambda f: (f / "SHA256SUMS").write_text(""), "SHA256SUMS is missing or unreadable"),
    ],
)
def test_difference_is_named(folder, harm, words):
    harm(folder)
    assert words in find_difference(folder)


def test_link_is_no_file_even_if_it_leads_to_the_same_bytes(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.txt"
    (folder / "a.txt").rename(elsewhere)
    (folder / "a.txt").symlink_to(elsewhere)

    assert find_difference(folder) == "a.txt does not hold what was written"
