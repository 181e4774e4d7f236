"""Compile the loops, or see that their machine code is kept."""

from bancada.networks import kernel

if __name__ == "__main__":
    kernel.ready()
