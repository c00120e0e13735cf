"""Two accounts of one machine evaluate one after the other, neither of them the owner of the installation.

In a mount namespace of its own: the accounts, their folders and what is in ``/tmp`` end with the test.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST, SECOND = 65101, 65102
EVALUATE = (
    "-P -m pi0.ript.scripts.cli eval --suite libero_goal --tasks 7 --episodes 1 --max_episode_length 3 "
    "--output_dir out --num_parallel_envs"
)
# robosuite would open the file that the first account leaves, see the last line of its block.
SCRIPT = f"""
set -e
mount --bind "$1/passwd" /etc/passwd
if [ -n "$2" ]; then
  mount --bind "$3" "$1/stage${{3#"$2"}}"
  mount --rbind "$1/stage" "$2"
fi
mount -t tmpfs -o mode=1777 tmpfs /tmp
evaluate() {{
  install -d -o "$1" -g "$1" -m 700 "/tmp/$1"
  cd "/tmp/$1"
  setpriv --reuid="$1" --regid="$1" --clear-groups env -i HOME="/tmp/$1" PATH=/usr/bin:/bin \\
    PYTHONPATH='{ROOT}' '{sys.executable}' {EVALUATE} "$2"
  ls out/results.json
}}
evaluate {FIRST} 1
install -o {FIRST} -m 600 /dev/null /tmp/robosuite.log
evaluate {SECOND} 2
"""


def closed_to_others(path: Path) -> Path | None:
    """The outermost folder on the way to ``path`` that other accounts may not enter."""
    return next((p for p in reversed(path.parents) if not p.stat().st_mode & 0o001), None)


@pytest.mark.libero
@pytest.mark.slow
def test_each_of_two_accounts_evaluates_an_episode(tmp_path: Path):
    prefix = Path(sys.base_prefix).resolve()
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("other accounts and a mount namespace need root")
    if closed_to_others(ROOT / "pi0") or Path("/tmp") in (*ROOT.parents, *prefix.parents):
        pytest.skip(f"other accounts cannot read {ROOT}, or it lies in /tmp")
    closed = closed_to_others(
        prefix
    )  # the interpreter may lie in root's home; it is opened to both
    users = "".join(f"ript{uid}:x:{uid}:{uid}::/tmp/{uid}:/bin/sh\n" for uid in (FIRST, SECOND))
    (tmp_path / "passwd").write_text(Path("/etc/passwd").read_text() + users)
    if closed is not None:
        (tmp_path / "stage" / prefix.relative_to(closed)).mkdir(parents=True)

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", SCRIPT, "sh", tmp_path, closed or "", prefix],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert done.stdout.count("out/results.json") == 2
