"""Training: losses, the Lightning module, what to watch, and the recipes."""
