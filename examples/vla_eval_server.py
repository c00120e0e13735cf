"""vla-eval on a policy of ours: its model server asks ``ript serve`` for every action chunk.

ript serve --policy DIR
python -m examples.vla_eval_server --port 8001 --args.port 8000
vla-eval run --no-docker --server-url ws://127.0.0.1:8001 --config LIBERO.yaml

Needs ``pip install vla-eval==0.8.0 openpi-client``. vla-eval renders 256 pixels and turns them, as openpi's example
does; it executes grippers as fully open or fully closed, which ``ript eval`` leaves to the policy.
"""

from typing import Any

import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from vla_eval.model_servers.base import SessionContext
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.model_servers.serve import run_server
from vla_eval.specs import GRIPPER_CLOSE_POS, IMAGE_RGB, LANGUAGE, POSITION_DELTA, ROTATION_AA
from vla_eval.specs import STATE_EEF_POS_AA_GRIP as STATE


class RiptModelServer(PredictModelServer):
    """Hands vla-eval's observations to a ``ript serve`` and its action chunks back."""

    def __init__(self, host: str = "127.0.0.1", port: int = 8000) -> None:
        """Connect; the policy card says how much of an action chunk is executed."""
        self._client = WebsocketClientPolicy(host, port)
        super().__init__(chunk_size=self._client.get_server_metadata()["execute_steps"])

    def predict(self, obs: dict[str, Any], ctx: SessionContext) -> dict[str, Any]:
        """Return the action chunk for one observation."""
        answer = self._client.infer(
            {
                "observation/image": obs["images"]["agentview"],
                "observation/wrist_image": obs["images"]["wrist"],
                "observation/state": np.asarray(obs["states"], np.float64),
                "prompt": obs["task_description"],
            }
        )
        return {"actions": answer["actions"]}

    def get_observation_params(self) -> dict[str, Any]:
        """Ask for both cameras, and for the state as policies of LIBERO were given it."""
        return {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}

    def get_observation_spec(self) -> dict[str, Any]:
        """Return what is read."""
        return {"agentview": IMAGE_RGB, "wrist": IMAGE_RGB, "state": STATE, "language": LANGUAGE}

    def get_action_spec(self) -> dict[str, Any]:
        """Return what is answered."""
        return {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}


if __name__ == "__main__":
    run_server(RiptModelServer)
