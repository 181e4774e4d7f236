"""The pins are set before numpy and torch load, whatever the shell says, with a warning if they come too late."""

import os
import subprocess
import sys

import pytest

from bancada.pins import PINS


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if name not in PINS}
    return subprocess.run(
        [sys.executable, "-c", code], env={**plain, **environment}, capture_output=True, text=True, check=True
    )


def test_torch_and_numpy_load_with_the_pinned_kernels() -> None:
    done = python(
        "import bancada, torch, os; print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(),"
        " os.environ['MKL_CBWR'], os.environ['OPENBLAS_CORETYPE'])"
    )
    assert done.stdout.split() == ["AVX2", "1", "COMPATIBLE", "Haswell"]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "value"), [("MKL_CBWR", "AVX2"), ("ATEN_CPU_CAPABILITY", "default"), ("OMP_NUM_THREADS", "2")]
)
def test_another_value_from_the_shell_is_overruled_with_one_line(name: str, value: str) -> None:
    done = python(f"import bancada, os; print(os.environ[{name!r}])", **{name: value})
    assert done.stdout.strip() == PINS[name]
    assert done.stderr.count("\n") == 1
    assert f"{name}={value} from the shell is overruled by {name}={PINS[name]}" in done.stderr


def test_numpy_loads_where_the_shell_asks_for_kernels_that_the_pins_rule_out() -> None:
    done = python("import bancada, numpy", NPY_ENABLE_CPU_FEATURES="AVX2")
    assert done.stderr.count("\n") == 1
    assert "NPY_ENABLE_CPU_FEATURES=AVX2 from the shell is overruled by NPY_DISABLE_CPU_FEATURES=" in done.stderr


def test_importing_bancada_after_numpy_warns_that_it_is_too_late_for_the_pins() -> None:
    done = python("import numpy, bancada")
    assert "imported after numpy" in done.stderr
    assert "too late" in done.stderr


def test_a_child_of_a_pinned_process_prints_nothing() -> None:
    done = python("import numpy, bancada", **PINS)
    assert done.stderr == ""
