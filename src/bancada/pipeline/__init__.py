"""The pipeline as a whole: all of params.yaml, DVC's graph, repro, check, verify, reproduce."""
