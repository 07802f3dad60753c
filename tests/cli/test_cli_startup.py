"""Small answers come at once: nothing heavy is imported for them."""

import json
import subprocess
import sys
import time

import pytest

HEAVY = ("torch", "timm", "torchvision", "accelerate", "numpy", "rich")
_SCRIPT = """
import json, sys
from compressor.cli.main import main
code = main({arguments!r})
sys.stdout.flush()
print(json.dumps([code, [name for name in {heavy!r} if name in sys.modules]]), file=sys.stderr)
"""


def _run(arguments: list[str]) -> tuple[int, list[str], str]:
    began = time.perf_counter()
    script = _SCRIPT.format(arguments=arguments, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    print(f"{' '.join(arguments)}: {time.perf_counter() - began:.2f} s")
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, modules, done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "--help",
        "distill --help",
        "--version",
        "list methods",
        "list models vgg",
        "list data",
        "list teachers",
        "list recipes",
        "plugins list",
    ],
)
def test_small_answers_import_nothing_heavy(line: str) -> None:
    code, modules, out = _run(line.split())
    assert code == 0
    assert "torch" not in modules
    assert "timm" not in modules
    if "list" not in line:
        assert modules == []
    assert out.strip() or line == "list teachers"


@pytest.mark.parametrize("line", ["distill --epoch 3", "distil", "distill -m kdd", "distill -s resnet81", "list nix"])
def test_a_typing_error_is_told_before_torch_is_imported(line: str) -> None:
    code, modules, out = _run(line.split())
    assert code == 2
    assert "torch" not in modules
    assert "timm" not in modules
    assert out == ""


def test_completion_knows_commands_and_options_without_torch() -> None:
    script = (
        "import sys; from compressor.cli.main import main; code = main([]); "
        "sys.stderr.write(str([code, 'torch' in sys.modules]))"
    )
    surroundings = {"_COMPRESS_COMPLETE": "complete_bash", "COMP_WORDS": "compress distill --tea", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PATH": "", **surroundings}
    )
    assert done.stdout.split() == ["--teacher", "--teacher-weights"]
    assert done.stderr == "[0, False]"


def test_a_reader_that_leaves_early_sees_no_traceback() -> None:
    command = f"{sys.executable} -m compressor list models | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout == "name\tmeaning\tpackage\n"
    assert done.stderr == ""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m compressor list data {closed}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_result_that_the_disk_does_not_take_is_a_storage_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m compressor list data > /dev/full"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error: cannot write the result to stdout: No space left on device")
    assert "Traceback" not in done.stderr
