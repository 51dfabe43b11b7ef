"""Attention to the tokens of a level against float64 loops in NumPy."""

from __future__ import annotations

import numpy as np
import torch

from spd.model.attention import Attention, KeyValue


def test_equals_a_loop_over_heads_and_queries():
    torch.manual_seed(0)
    layer = Attention(12, num_heads=3, dropout=0.4).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    hidden = torch.randn(2, 5, 12, dtype=torch.float64)
    keys, values = torch.randn(2, 2, 3, 7, 4, dtype=torch.float64)

    result = layer(hidden, KeyValue(keys, values)).detach().numpy()

    weight, bias = layer.query.weight.detach().numpy(), layer.query.bias.detach().numpy()
    for image in range(2):
        query = hidden[image].numpy() @ weight.T + bias
        read = np.zeros((5, 12))
        for k, head in np.ndindex(5, 3):
            scores = keys[image, head].numpy() @ query[k, 4 * head : 4 * head + 4] / np.sqrt(4)
            weights = np.exp(scores - scores.max())
            read[k, 4 * head : 4 * head + 4] = weights / weights.sum() @ values[image, head].numpy()
        expected = read @ layer.output.weight.detach().numpy().T + layer.output.bias.detach().numpy()
        np.testing.assert_allclose(result[image], expected, atol=1e-12)


def test_it_holds_no_projection_of_keys_and_values():
    """Those are computed once per image, in the memory."""
    layer = Attention(12, num_heads=3, dropout=0.0)
    assert {name.split(".")[0] for name, _ in layer.named_parameters()} == {"query", "output"}
