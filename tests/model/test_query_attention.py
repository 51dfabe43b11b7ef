"""Attention between queries against float64 loops in NumPy."""

from __future__ import annotations

import numpy as np
import torch

from spd.model.attention import SelfAttention


def _layer() -> SelfAttention:
    torch.manual_seed(0)
    layer = SelfAttention(12, num_heads=3, dropout=0.4).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return layer


def _inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden, position = torch.randn(2, 2, 5, 12, generator=generator, dtype=torch.float64)
    return hidden, position


def _among_themselves(layer: SelfAttention, hidden, position, keep=None):
    return layer(hidden + position, layer.key_value(hidden, position), keep)


def _by_hand(layer: SelfAttention, hidden: np.ndarray, position: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """One image, (K, D): position on queries and keys, not on values."""
    project = {
        name: (getattr(layer, name).weight.detach().numpy(), getattr(layer, name).bias.detach().numpy())
        for name in ("query", "key", "value", "output")
    }
    query = (hidden + position) @ project["query"][0].T + project["query"][1]
    key = (hidden + position) @ project["key"][0].T + project["key"][1]
    value = hidden @ project["value"][0].T + project["value"][1]
    read = np.zeros_like(hidden)
    for k in range(len(hidden)):
        for head in range(3):
            channels = slice(4 * head, 4 * head + 4)
            scores = np.array([query[k, channels] @ row[channels] / 2.0 for row in key])
            weights = np.where(keep, np.exp(scores - scores.max()), 0.0)
            read[k, channels] = (weights / weights.sum()) @ value[:, channels]
    return read @ project["output"][0].T + project["output"][1]


def test_position_is_added_to_queries_and_keys_only():
    layer, (hidden, position) = _layer(), _inputs()
    result = _among_themselves(layer, hidden, position)
    for image in range(2):
        expected = _by_hand(layer, hidden[image].numpy(), position[image].numpy(), np.ones(5, dtype=bool))
        np.testing.assert_allclose(result[image].detach().numpy(), expected, atol=1e-12)


def test_masked_queries_are_read_by_none():
    layer, (hidden, position) = _layer(), _inputs()
    keep = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])
    result = _among_themselves(layer, hidden, position, keep)
    for image in range(2):
        expected = _by_hand(layer, hidden[image].numpy(), position[image].numpy(), keep[image].numpy())
        np.testing.assert_allclose(result[image].detach().numpy(), expected, atol=1e-12)


def test_one_query_reads_itself():
    layer, (hidden, position) = _layer(), _inputs()
    expected = layer.output(layer.value(hidden[:, :1]))
    torch.testing.assert_close(_among_themselves(layer, hidden[:, :1], position[:, :1]), expected)
