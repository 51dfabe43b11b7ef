"""What the model costs: parameters and multiply-accumulates by component."""
