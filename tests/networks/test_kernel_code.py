"""What the compiler made of the kernel, read from its machine code for this CPU."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest

PRINT = """
from bancada.networks.kernel import draws, ready, training
ready()
for compiled in (training.run, draws.draw):
    print(*compiled.inspect_asm().values())
"""
FUNCTION = re.compile(r"_ZN7bancada8networks6kernel\d+[a-z]+\d+([a-z_]+?)B\d.*:")
PACKED = re.compile(r"\tv?((add|sub|mul|div|max|min)ps|pmuludq)\t")
SCALAR = re.compile(r"\tv?(add|sub|mul|div|max|min)ss\t")
FUSED = re.compile(r"\tvfn?m(add|sub)")
LOOPS_OVER_ROWS = {
    "batch_norm_backward",
    "batch_norm_evaluate",
    "batch_norm_forward",
    "dropout_forward",
    "each_backward",
    "each_forward",
    "linear_backward",
    "loss_and_gradient",
    "product",
    "random_words",
    "softmax_backward",
    "softmax_forward",
    "spoil",
}
LOOPS_OVER_PARAMETERS = {"adam", "clip", "sgd", "uniform"}


@pytest.fixture(scope="module")
def code() -> str:
    nowhere = os.environ | {"XDG_CACHE_HOME": os.devnull}  # code from the cache cannot be read
    return subprocess.run([sys.executable, "-c", PRINT], env=nowhere, capture_output=True, text=True, check=True).stdout


@pytest.mark.long
def test_no_product_is_fused_with_a_sum(code):
    assert len(code) > 100_000
    assert not FUSED.search(code)


@pytest.mark.long
def test_loops_over_rows_and_parameters_do_several_in_one_instruction(code):
    packed, scalar, now = Counter[str](), Counter[str](), ""
    for line in code.splitlines():
        if function := FUNCTION.match(line):
            now = function[1]
        packed[now] += bool(PACKED.search(line))
        scalar[now] += bool(SCALAR.search(line))
    few = {
        name for name in LOOPS_OVER_ROWS | LOOPS_OVER_PARAMETERS if packed[name] < 3 or packed[name] * 6 < scalar[name]
    }
    assert few == set()  # the scalar ones are of the rests of loops, and of loops over few numbers
