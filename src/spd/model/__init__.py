"""The network: encoder, neck, memory, and the decoder of query points."""
