"""Every test works in a folder, a cache and a configuration of its own, and without network."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_configure() -> None:
    """Set what libraries read when they are imported: no hub, and one thread a worker, for they share the cores."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Keep a test away from the user's files and from other tests; gives the working folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    if "compressor.registry" in sys.modules:  # a test may have planted entry points; they are read once a process
        sys.modules["compressor.registry"].entry_points.cache_clear()


@pytest.fixture(scope="session")
def tiny_bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the tiny teacher once; returns a cache folder that holds it, to be copied and never changed."""
    from tiny_runs import train_bank

    root = tmp_path_factory.mktemp("bank")
    before = {key: os.environ.get(key) for key in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    os.environ.update(XDG_CACHE_HOME=str(root / "cache"), XDG_CONFIG_HOME=str(root / "config"))
    try:
        train_bank(root)
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value
    return root / "cache"


@pytest.fixture
def tiny(isolated: Path, tiny_bank: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set the stage for tiny runs: data and a trained teacher lie in the working folder, finishing takes no time."""
    from tiny_runs import quick_finish, write_data

    quick_finish(monkeypatch)
    write_data(isolated)
    shutil.copytree(tiny_bank, isolated / "cache")
    return isolated
