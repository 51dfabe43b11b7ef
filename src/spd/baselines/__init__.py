"""What SPD is measured against, each behind ``DepthPredictor``: constants, a lookup with a small MLP, a dense model."""
