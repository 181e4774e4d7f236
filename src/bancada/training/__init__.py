"""Training: the engine, training from scratch, curves while it runs, and the stage train."""
