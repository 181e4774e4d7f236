"""Networks: layers, losses, metrics, encodings, and the folder of a trained variant."""
