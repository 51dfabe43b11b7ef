"""The words for what runs a network and in which precision; imports no torch, so that the command line is quick."""

from __future__ import annotations

from typing import Literal, TypeAlias

Engine = Literal["onnx", "openvino"]
"""Runs an exported model: ONNX Runtime or OpenVINO."""
TorchMode = Literal["eager", "compile", "cudagraphs"]
"""How PyTorch runs a network."""
Runtime: TypeAlias = Literal["torch", "compile", "onnx", "openvino"]
"""What a command may run a model with; ``torch`` is PyTorch's eager mode."""
Precision = Literal["float32", "bfloat16"]
"""Of the products; locations, sums and answers are float32 in either."""
