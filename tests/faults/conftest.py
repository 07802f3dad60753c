"""One fork server a test process, and places in memory to run in."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_client import Server
from fault_runs import Stage, memory_folder

HERE = Path(__file__).parent


NIGHT = "nightly"


def pytest_configure(config: pytest.Config) -> None:
    """Let ``-m nightly`` ask for the large counts; `figures` reads the variable when the tests are imported."""
    if config.option.markexpr == NIGHT:
        os.environ["COMPRESSOR_NIGHTLY"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, so that a quick run can leave them out, and ``-m nightly`` take no others."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.faults)
            if config.option.markexpr == NIGHT:
                item.add_marker(NIGHT)


@pytest.fixture(scope="session")
def fork_server() -> Iterator[Server]:
    """The process that forks a child for each command."""
    made = Server()
    yield made
    made.close()


@pytest.fixture(scope="session")
def first_stage(fork_server: Server) -> Iterator[Stage]:
    """The place where the teacher is trained, once a test process."""
    with memory_folder() as root:
        yield Stage(fork_server, root)


@pytest.fixture(scope="module")
def stage(first_stage: Stage) -> Iterator[Stage]:
    """Places to run in; gone after the module."""
    with memory_folder() as root:
        yield Stage(first_stage.server, root, first_stage)
