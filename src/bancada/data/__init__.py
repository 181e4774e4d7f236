"""The data of a study: the kinds of sources, the split, and the stages generate and split."""
