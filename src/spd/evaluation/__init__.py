"""How good a model is: the questions that every model is asked, and the metrics of its answers."""
