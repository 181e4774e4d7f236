"""Training: the engines, training from scratch, loss curves while it runs, and the stage train."""
