"""Going back to the weights and the optimizer of an earlier checkpoint of the run."""

from pathlib import Path

import torch

from pi0.formats.folder import Choices, read_folder
from pi0.policy import Pi0Policy
from pi0.ript.algo.objective import Objective
from pi0.ript.train.checkpoint import POLICY_FOLDER, load_training_state
from pi0.ript.train.update import Engine


def roll_back(checkpoint: Path, policy: Pi0Policy, engine: Engine, objective: Objective) -> None:
    """Put policy, optimizer and objective where ``checkpoint`` has them.

    Raises:
        ValueError: The checkpoint is damaged.
    """
    state = load_training_state(checkpoint)
    stored = read_folder(checkpoint / POLICY_FOLDER, Choices()).tensors
    with torch.no_grad():
        # Weights under adapters are not trained and have other names; the engine holds the adapters.
        for name, parameter in policy.network.core.named_parameters():
            if parameter.requires_grad and name in stored:
                parameter.copy_(stored[name].read())
    engine.load_state(state.engine)
    objective.load_state(dict(state.objective))
