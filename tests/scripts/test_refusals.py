"""What the programs say to wrong input still says all that it said at commit 668c2c2.

``refusals.json`` is the record: the command line, the message of that commit and what a later message must
contain, which is the key or flag in the user's words, the value, what is allowed and what to type. Wording may
improve, content must not shrink. Paths are relative to a folder that :func:`prepare` fills.
"""

import io
import json
import logging
import shutil
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import pi0
from pi0.ript.build_policy import build_policy
from pi0.ript.episode_record import EpisodeRecord
from pi0.ript.evaluation.log import EvaluationLog
from pi0.ript.scripts import eval as eval_program
from pi0.ript.scripts.cli import COMMANDS, dispatch
from pi0.ript.scripts.exits import USER_ERROR, Main, run_main
from pi0.ript.scripts.parts.evaluate_policy import settings_of, to_config

RECORD = Path(__file__).with_name("refusals.json")
BUILTIN = Path(pi0.__file__).with_name("builtin")
LEAST_CASES = 40
UNSET = (
    "DEBUG_SAVE_PROCESSED", "PI0_DEBUG_IMAGE_DIR", "PI0_DEBUG_SAVE_VIDEO", "RANK", "RIPT_TRACEBACK",
    "USE_RIPT_VLA_RUNNER", "WORLD_SIZE",
)  # fmt: skip

# Short enough to notice a run that was not refused.
SETTINGS = """\
task: {task_names_to_use: [7], max_episode_length: 8, num_parallel_envs: 1}
algo: {rloo_batch_size: 2, demo_batch_size: 1}
training: {num_train_steps: 1}
evaluation: {rollouts_per_task: 0}
features: {use_ript_vla_runner: true}
"""
# The one episode of EVALUATION has these seeds, because seeds derive from names.
EVALUATION = ["eval", "--suite", "libero_goal", "--tasks", "7", "--episodes", "1"]
EPISODE = {
    "suite": "libero_goal", "task_id": 7, "task": "turn on the stove", "state_index": 30,
    "fixture_seed": 3115338627,
    "seed": 6876590560688376811, "outcome": "success", "num_steps": 40, "num_decisions": 4,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """A wrong input and its message: recorded, and in parts that must survive.

    Attributes:
        name: What is wrong.
        argv: Command line of ``ript``; ``{port}`` is a TCP port that is taken.
        environment: Variables that are set.
        message: What commit 668c2c2 said.
        must_say: What a later message must contain.
    """

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    message: str
    must_say: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a program ended: its exit code, None for an exception, its stderr, and the files it touched."""

    status: int | str | None
    stderr: str
    touched: Sequence[str]


CASES = [Case(**case) for case in json.loads(RECORD.read_text(encoding="ascii"))]


@pytest.fixture(autouse=True)
def _logging_is_given_back() -> Iterator[None]:
    logger = logging.getLogger("pi0")
    handlers, propagate, level = list(logger.handlers), logger.propagate, logger.level
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


def prepare(folder: Path) -> None:
    """Write the files and folders, most of them damaged, that the command lines name."""
    (folder / "settings.yaml").write_text(SETTINGS)
    (folder / "a_file").write_text("text")
    (folder / "no_key").write_text("\n")
    (folder / "empty").mkdir()
    _configurations(folder)
    _policies(folder)
    _runs(folder)
    _evaluations(folder)
    (folder / "no_demos").mkdir()
    save_file({"images": np.zeros(1)}, folder / "no_demos/libero_goal_7.safetensors")


def _configurations(folder: Path) -> None:
    (folder / "broken.yaml").write_text("task: [1, 2\n")
    (folder / "twice.yaml").write_text("algo:\n  lr: 1e-4\n  lr: 1e-5\n")
    (folder / "list.yaml").write_text("- task\n")
    (folder / "null_byte.yaml").write_text("task: \0\n")
    (folder / "placeholder.yaml").write_text('policy_path: "{CHECKPOINT_PATH}/pi0"\n')


def _policies(folder: Path) -> None:
    weights = "model.safetensors"
    for name in ("cut_off", "bad_json", "no_stats", "no_tokenizer", "unknown_key"):
        shutil.copytree(BUILTIN, folder / name, ignore=shutil.ignore_patterns(weights))
        (folder / name / weights).symlink_to(BUILTIN / weights)
    (folder / "cut_off" / weights).unlink()
    (folder / "cut_off" / weights).write_bytes((BUILTIN / weights).read_bytes()[:1000])
    (folder / "bad_json/config.json").write_text('{"model_type": ')
    (folder / "no_stats/norm_stats.json").unlink()
    (folder / "no_tokenizer/tokenizer.json").unlink()
    card = json.loads((BUILTIN / "policy.json").read_text())
    (folder / "unknown_key/policy.json").write_text(json.dumps({**card, "horizn": 10}))
    (folder / "smolvla").mkdir()
    (folder / "smolvla/config.json").write_text('{"model_type": "smolvla"}')


def _runs(folder: Path) -> None:
    for name in ("run", "damaged_run"):
        (folder / name).mkdir()
        shutil.copy(folder / "settings.yaml", folder / name / "config.yaml")
    (folder / "bad_settings").mkdir()
    (folder / "bad_settings/config.yaml").write_text("algo: {lr: fast}\n")
    (folder / "damaged_run/checkpoints/1/training_state").mkdir(parents=True)


def _evaluations(folder: Path) -> None:
    """Write a finished evaluation, one without an episode in common with it, and a damaged one."""
    arguments = eval_program.parse(EVALUATION[1:])
    policy = build_policy(to_config(arguments, "builtin", is_other=False))
    settings = settings_of(arguments, "builtin", policy)
    for name, seed in (("evaluated", EPISODE["seed"]), ("other_seed", 1)):
        with EvaluationLog(folder / name, settings) as log:
            log.add(EpisodeRecord(**{**EPISODE, "seed": seed}))
    (folder / "bad_log").mkdir()
    (folder / "bad_log/episodes.jsonl").write_text("no JSON\n")


def run(
    argv: Sequence[str],
    folder: Path,
    environment: Mapping[str, str] | None = None,
    main: Main = dispatch,
) -> Outcome:
    """Run a program in this process, in ``folder``, as a process of its own would."""
    before, said = _files(folder), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(io.StringIO()),
        redirect_stderr(said),
    ):
        patch.chdir(folder)
        for name in UNSET:
            patch.delenv(name, raising=False)
        for name, value in (environment or {}).items():
            patch.setenv(name, value)
        status = _leave(main, argv)
    touched = sorted({path for path, _ in before ^ _files(folder)})
    return Outcome(status=status, stderr=said.getvalue(), touched=touched)


def _leave(main: Main, argv: Sequence[str]) -> int | str | None:
    try:
        run_main(main, argv)
    except SystemExit as end:
        return end.code
    except Exception:  # noqa: BLE001 - whatever it is, the user would see its traceback
        traceback.print_exc(file=sys.stderr)
        return None


def _files(folder: Path) -> set[tuple[str, bytes]]:
    """Return path and content of everything that was written into a folder."""
    return {
        (
            str(path.relative_to(folder)),
            b"" if path.is_dir() or path.is_symlink() else path.read_bytes(),
        )
        for path in folder.rglob("*")
    }


def refusal(outcome: Outcome) -> str:
    """Return stderr from its last error line on, without log lines before it."""
    _, mark, message = outcome.stderr.rpartition("error: ")
    return message.strip() if mark else ""


def offences(case: Case, outcome: Outcome) -> list[str]:
    """Return what is wrong with a refusal, one line each."""
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    message = refusal(outcome)
    found = [f"exit code {outcome.status}"] if outcome.status != USER_ERROR else []
    found += ["traceback"] if "Traceback" in outcome.stderr else []
    if len(errors) != 1 or len(message.splitlines()) != 1:
        found.append("not one line")
    found += [f"does not say {part!r}" for part in case.must_say if part not in message]
    found += [f"touches {path}" for path in outcome.touched]
    return [f"{case.name}: {what}; it says {message or outcome.stderr!r}" for what in found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    prepare(tmp_path / "work")
    return tmp_path / "work"


def test_every_recorded_refusal_says_in_one_line_what_it_said_before(folder: Path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        cases = [_with_port(case, port) for case in CASES]
        outcomes = [run(case.argv, folder, case.environment) for case in cases]
    found = [line for pair in zip(cases, outcomes, strict=True) for line in offences(*pair)]

    assert not found, "\n".join(found)


def _with_port(case: Case, port: str) -> Case:
    argv, must_say = (
        [text.replace("{port}", port) for text in texts] for texts in (case.argv, case.must_say)
    )
    return replace(case, argv=argv, must_say=must_say)


def test_the_record_covers_every_command_and_demands_only_what_was_said():
    assert len(CASES) >= LEAST_CASES
    assert {case.argv[0] for case in CASES} >= COMMANDS.keys()
    assert len({case.name for case in CASES}) == len(CASES)
    assert [case.name for case in CASES if not case.must_say] == []
    unsaid = [
        (case.name, part) for case in CASES for part in case.must_say if part not in case.message
    ]
    assert unsaid == []


def _says_less(_: Sequence[str]) -> None:
    raise ValueError("algo.lr is wrong")


def _says_two_lines(_: Sequence[str]) -> int:
    sys.stderr.write("error: algo.lr must be > 0, got -1\nset another one\n")
    return USER_ERROR


def _says_a_traceback(_: Sequence[str]) -> None:
    raise RuntimeError("algo.lr must be > 0, got -1")


def _goes_on(_: Sequence[str]) -> None:
    sys.stderr.write("error: algo.lr must be > 0, got -1\n")


def _writes_first(_: Sequence[str]) -> None:
    Path("out").mkdir()
    raise ValueError("algo.lr must be > 0, got -1")


def _is_right(_: Sequence[str]) -> None:
    raise ValueError("algo.lr must be > 0, got -1")


PLANTED: dict[Main, list[str]] = {
    _is_right: [],
    _says_less: ["does not say '> 0'", "does not say '-1'"],
    _says_two_lines: ["not one line"],
    _says_a_traceback: [
        "exit code None", "traceback", "not one line",
        "does not say 'algo.lr'", "does not say '> 0'", "does not say '-1'",
    ],
    _goes_on: ["exit code 0"],
    _writes_first: ["touches out"],
}  # fmt: skip


def test_planted_bad_refusals_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # Only errors that our own code raises count as the user's.
    monkeypatch.setitem(globals(), "__name__", "__main__")
    case = Case(name="lr", argv=[], message="", must_say=["algo.lr", "> 0", "-1"])
    found = {main: offences(case, run([], tmp_path, main=main)) for main in PLANTED}

    assert {main: [line.split(";")[0] for line in lines] for main, lines in found.items()} == {
        main: [f"lr: {what}" for what in expected] for main, expected in PLANTED.items()
    }
