"""Training: the engine, training from scratch, loss curves while it runs, and the stage train."""
