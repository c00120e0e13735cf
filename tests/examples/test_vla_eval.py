"""vla-eval's own client gets the actions of a policy that is served here, through the example's model server."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.serve.servers import request_values, serving

pytest.importorskip("openpi_client", reason="openpi-client is installed by tools/setup.sh")
vla_eval = pytest.importorskip("vla_eval.api", reason="needs vla-eval")
connection = pytest.importorskip("vla_eval.connection")

from examples.vla_eval_server import RiptModelServer  # noqa: E402 - needs both packages

pytestmark = [
    pytest.mark.filterwarnings("ignore:connect.. must be used:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


def observation(values):
    """What vla-eval's LIBERO benchmark sends."""
    return {
        "images": {
            "agentview": values["observation/image"],
            "wrist": values["observation/wrist_image"],
        },
        "states": values["observation/state"].astype(np.float32),
        "task_description": values["prompt"],
    }


async def ask(url, seeds):
    async with connection.Connection(url) as client:
        await client.start_episode({"task": {"name": "open"}})
        return [await client.act(observation(request_values(seed))) for seed in seeds]


def test_vla_evals_client_executes_h_actions_of_every_chunk():
    with serving() as served, vla_eval.serve_background(RiptModelServer(port=served.port)) as ours:
        # in a thread of its own: a browser that other tests have open keeps a loop in this one
        with ThreadPoolExecutor(1) as thread:
            answers = thread.submit(lambda: asyncio.run(ask(ours.url, range(6)))).result()
        assert served.metrics()["responses"] == 2
    # the stand-in answers with the state; 4 of 6 actions are executed before it is asked again
    for step, answer in enumerate(answers):
        state = request_values(0 if step < 4 else 4)["observation/state"]
        assert np.allclose(answer["actions"], state[:7], atol=1e-6)


def test_model_server_asks_for_both_cameras_and_the_state():
    with serving() as served:
        wanted = RiptModelServer(port=served.port).get_observation_params()
    assert wanted == {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}
