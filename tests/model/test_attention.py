"""Attention against float64 loops in NumPy; blocks against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from spd.model.attention import FeedForward, MapTransformer, SelfAttention, TransformerBlock, attend, split_heads


def _attention_by_loops(query: np.ndarray, key: np.ndarray, value: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """(M, K, d), (M, N, d), (M, N, d), (N,) to (K, M·d), one query and head at a time."""
    num_heads, num_queries, width = query.shape
    read = np.zeros((num_queries, num_heads * width))
    for head in range(num_heads):
        for k in range(num_queries):
            scores = np.array([query[head, k] @ row for row in key[head]]) / np.sqrt(width)
            weights = np.exp(scores - scores.max()) * keep
            weights /= weights.sum()
            read[k, head * width : (head + 1) * width] = weights @ value[head]
    return read


def test_attend_equals_a_loop_over_heads_and_queries():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(2, 3, 5, 4, generator=generator, dtype=torch.float64)
    key, value = torch.randn(2, 2, 3, 7, 4, generator=generator, dtype=torch.float64)
    keep = torch.tensor([[True, False, True, True, True, False, True], [True] * 7])

    read = attend(query, key, value, keep)

    for image in range(2):
        expected = _attention_by_loops(
            query[image].numpy(), key[image].numpy(), value[image].numpy(), keep[image].numpy()
        )
        np.testing.assert_allclose(read[image].numpy(), expected, atol=1e-12)


def test_no_mask_means_that_every_key_counts():
    query, key, value = torch.randn(3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attend(query, key, value), attend(query, key, value, torch.ones(1, 6, dtype=torch.bool)))


def test_a_query_without_any_key_reads_zero():
    query, key, value = torch.randn(3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(attend(query, key, value, torch.zeros(1, 6, dtype=torch.bool)), torch.zeros(1, 6, 8))


def test_heads_are_consecutive_channels():
    tokens = torch.arange(2 * 3 * 8.0).view(2, 3, 8)
    heads = split_heads(tokens, 4)
    assert heads.shape == (2, 4, 3, 2)
    assert torch.equal(heads[:, 2], tokens[..., 4:6])


def test_feed_forward_is_linear_gelu_linear():
    torch.manual_seed(0)
    layer = FeedForward(6, ratio=4).double()
    tokens = torch.randn(2, 3, 6, dtype=torch.float64)
    fc1, fc2 = (module for module in layer if isinstance(module, nn.Linear))
    wide = tokens @ fc1.weight.T + fc1.bias
    expected = (wide * 0.5 * (1 + torch.erf(wide / 2**0.5))) @ fc2.weight.T + fc2.bias
    assert fc1.weight.shape == (24, 6)
    torch.testing.assert_close(layer(tokens), expected, atol=1e-12, rtol=0)


def test_self_attention_equals_the_loop():
    torch.manual_seed(0)
    layer = SelfAttention(8, num_heads=2, dropout=0.5).double().eval()
    tokens = torch.randn(1, 6, 8, dtype=torch.float64)
    query, key, value = (
        (tokens[0] @ project.weight.T + project.bias).view(6, 2, 4).transpose(0, 1).detach().numpy()
        for project in (layer.query, layer.key, layer.value)
    )
    read = torch.from_numpy(_attention_by_loops(query, key, value, np.ones(6)))
    torch.testing.assert_close(layer(tokens, layer.key_value(tokens))[0], layer.output(read), atol=1e-12, rtol=0)


def test_block_is_pre_norm_with_two_residuals():
    torch.manual_seed(0)
    block = TransformerBlock(8, num_heads=2, ffn_ratio=4, dropout=0.3).double().eval()
    tokens = torch.randn(2, 6, 8, dtype=torch.float64)
    normed = block.attention_norm(tokens)
    after_attention = tokens + block.attention(normed, block.attention.key_value(normed))
    torch.testing.assert_close(block(tokens), after_attention + block.ffn(block.ffn_norm(after_attention)))


def test_map_transformer_takes_cells_as_tokens_and_keeps_their_places():
    torch.manual_seed(0)
    transformer = MapTransformer(8, num_heads=2, ffn_ratio=2, dropout=0.0).double().eval()
    features = torch.randn(2, 8, 3, 5, dtype=torch.float64)

    result = transformer(features)

    tokens = torch.stack([features[:, :, row, column] for row in range(3) for column in range(5)], dim=1)
    for block in transformer:
        tokens = block(tokens)
    for row in range(3):
        for column in range(5):
            torch.testing.assert_close(result[:, :, row, column], tokens[:, 5 * row + column])


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    transformer = MapTransformer(8, num_heads=2, ffn_ratio=2, dropout=0.5)
    features = torch.randn(1, 8, 3, 5)
    assert not torch.equal(transformer(features), transformer(features))
    transformer.eval()
    assert torch.equal(transformer(features), transformer(features))


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="divide the 8 channels, got 3"):
        MapTransformer(8, num_heads=3, ffn_ratio=2, dropout=0.0)
