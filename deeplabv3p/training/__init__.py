"""Training: the optimizer and its schedule, checkpoints, callbacks and the fit."""
