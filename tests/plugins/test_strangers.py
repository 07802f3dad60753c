"""A stranger's way: the code of plugins/README.md runs as printed, and the template installs, passes and is found."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compressor.testing import check_distiller

PLUGINS = Path(__file__).parents[2] / "plugins"


def test_the_method_of_the_readme_runs_and_keeps_the_contract(tmp_path: Path) -> None:
    text = (PLUGINS / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (line,) = re.findall(r'^soft_targets = "(\w+):(\w+)"$', text, re.MULTILINE)
    (tmp_path / f"{line[0]}.py").write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(line[0], tmp_path / f"{line[0]}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[line[0]] = module
    try:
        spec.loader.exec_module(module)
        assert check_distiller(getattr(module, line[1])) == []
    finally:
        del sys.modules[line[0]]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Install a copy of the template into a folder of its own; returns the copy and that folder."""
    root = tmp_path_factory.mktemp("template")
    copy, site = root / "source", root / "site"
    shutil.copytree(PLUGINS / "template", copy, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*command, "--target", str(site), str(copy)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return copy, site


def run(site: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def test_only_the_module_is_installed(installed: tuple[Path, Path]) -> None:
    names = {path.name for path in installed[1].iterdir() if not path.name.endswith(".dist-info")} - {"__pycache__"}
    assert names == {"logit_mse.py"}


def test_the_template_is_found_and_keeps_the_contract(installed: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(installed[1], tmp_path, "-m", "compressor", "plugins", "check", "logit_mse")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ok +logit_mse +\(compress-kd-logit-mse 0.1.0\)$", done.stdout, re.MULTILINE)


def test_the_templates_own_tests_pass(installed: tuple[Path, Path]) -> None:
    copy, site = installed
    done = run(site, copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
