"""Networks, their training data, the training loop, and the weights that come with the project."""
