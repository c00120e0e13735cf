"""The models of the policy benchmark are what their description says."""

import torch

from benchmarks.network.models import make_observations, model_config, our_network, reference_model
from benchmarks.policy import sample_ours, sample_theirs


def test_middle_is_pi0_at_a_quarter_of_its_width():
    middle, full = model_config("middle"), model_config("full")
    for name in ("text_config", "vision_config"):
        ours, theirs = getattr(middle.vlm_config, name), getattr(full.vlm_config, name)
        assert 4 * ours.hidden_size == theirs.hidden_size
        assert 4 * ours.intermediate_size == theirs.intermediate_size
        assert ours.num_hidden_layers == theirs.num_hidden_layers
    assert 4 * middle.dit_config.hidden_size == full.dit_config.hidden_size
    assert middle.chunk_size == full.chunk_size == 50


def test_both_sides_answer_alike_with_two_images_and_with_a_masked_third():
    reference = reference_model("tiny")
    network = our_network(reference, "tiny")
    observations = make_observations(network.config, samples=2)
    ours = sample_ours(network, observations)
    two = torch.ones(2, 2, dtype=torch.bool)
    wide, is_real = observations.with_masked_camera()
    for some, mask in ((observations, two), (wide, is_real)):
        theirs = sample_theirs(reference, some, mask, torch.float32)
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
