"""``ript serve`` as the program it is: a policy, a port, a client, a signal."""

import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pi0.checkpoint import save_policy
from pi0.client_observation import ClientObservation
from pi0.ript.scripts.serve import read_key
from pi0.ript.serve.acting import ServedPolicy
from pi0.ript.serve.protocol import decode, encode
from pi0.ript.serve.requests import ActionRequest
from pi0.ript.serve.server import listen_at
from tests.policy_parts import raises_one_line, small_policy
from tests.programs import Program
from tests.serve.servers import request_values

SIZE = 28


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    save_policy(small_policy(), folder)
    return folder


@contextmanager
def program(tmp_path: Path, *arguments: str | Path):
    """A serving program and its address."""
    out = tmp_path / "out"
    out.touch()
    started = Program(
        "pi0.ript.scripts.serve:main", ["--port", "0", *arguments], cwd=tmp_path, stdout=out
    )
    try:
        is_waiting = threading.Event()
        for _ in range(1200):
            if "ws://" in out.read_text():
                break
            assert started.returncode is None, started.communicate()[1]
            is_waiting.wait(0.05)
        yield started, out.read_text().split()[0]
    finally:
        started.kill()
        started.stderr.close()


@pytest.mark.parametrize("content", ["word".encode("utf-16"), b"two words", b"", b"\xff"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ValueError, match="must hold one word of ASCII letters"):
        read_key(tmp_path / "key")


def test_a_key_is_read_without_the_end_of_its_line(tmp_path: Path):
    (tmp_path / "key").write_text("word\n")
    assert read_key(tmp_path / "key") == "word"


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_name_that_no_host_can_have_is_one_line(host: str):
    with pytest.raises(OSError, match=f"--host {host}: .*use 127") as caught:
        listen_at(host, 0)
    assert raises_one_line(caught.value)


def ask(address: str, values: dict) -> dict:
    with connect(address, compression=None) as connection:
        connection.recv()
        connection.send(encode(values))
        answer = connection.recv()
        assert isinstance(answer, bytes), answer
        return decode(answer)


def test_the_program_answers_as_the_policy_in_this_process_does(tmp_path, policy_folder):
    values = request_values(size=SIZE) | {"seed": 5}
    with program(tmp_path, "--policy", policy_folder) as (_, address):
        with connect(address, compression=None) as connection:
            card = decode(connection.recv())
        actions = ask(address, values)["actions"]
    assert (card["horizon"], card["protocol"], card["denoise_steps"]) == (6, "openpi", 4)
    images = (values["observation/image"], values["observation/wrist_image"])
    request = ActionRequest(
        observation=ClientObservation(images=images, state=values["observation/state"]),
        prompt=values["prompt"],
        seed=5,
    )
    (expected,) = ServedPolicy(small_policy(batch_size=1), num_steps=4)([request])
    assert np.array_equal(actions, expected)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_everything_answered(tmp_path, policy_folder, number, status):
    with program(tmp_path, "--policy", policy_folder, "--batch_size", "2") as (started, address):
        with ThreadPoolExecutor(4) as threads, connect(address, compression=None) as idle:
            idle.recv()
            values = request_values(size=SIZE)
            answers = [threads.submit(ask, address, values) for _ in range(4)]
            answers[0].result()
            started.send_signal(number)
            with pytest.raises(ConnectionClosed) as closed:
                idle.recv(timeout=30)
        _, said = started.communicate()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1001
    assert started.returncode == status
    name = signal.Signals(number).name
    assert f"error: stopped by {name}; every request that had arrived was answered" in said
    assert "Traceback" not in said


def test_open_door_is_said(tmp_path, policy_folder):
    (tmp_path / "key").write_text("sesame\n")
    everywhere = ".".join("0000")
    for options, is_said in ((), True), (("--api_key_file", "key"), False):
        with program(tmp_path, "--policy", policy_folder, "--host", everywhere, *options) as (
            started,
            address,
        ):
            assert address.startswith(f"ws://{everywhere}:")
            started.send_signal(signal.SIGTERM)
            _, said = started.communicate()
        assert ("everyone who can reach" in said) == is_said
