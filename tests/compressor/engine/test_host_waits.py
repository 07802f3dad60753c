"""Within an epoch the host never waits for the device: not for a number, not for a copy, not for a shape."""

from contextlib import ExitStack

import pytest
import torch
from host_waits import HostWaits
from tiny_runs import tiny_config

from compressor.engine.rehearsal import last_phase
from compressor.engine.runtime import Runtime
from compressor.registry import METHODS, names

WAITING = {"kdsvd": {"a decomposition is checked"}}
"""Methods that make the host wait in a step, and by what; this list may only grow shorter."""

NAMES = sorted(names(METHODS))


def waits_of_two_steps(method: str, monkeypatch: pytest.MonkeyPatch, **changes: object) -> set[str]:
    """Rehearse three steps as on an accelerator; what the second and third, their data among it, ask of the host."""
    monkeypatch.setattr(Runtime, "asynchronous", True)
    loop = last_phase([tiny_config(method, data__flip=True, **changes)])
    waits, begun = HostWaits(), []
    with ExitStack() as stack:

        def after_a_step(_runtime: Runtime) -> None:
            if not begun:
                begun.append(stack.enter_context(waits))

        monkeypatch.setattr(Runtime, "finish_queued", after_a_step)
        loop.rehearse(3)
    return set(waits.seen)


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("method", NAMES)
def test_step_of_a_method_never_makes_the_host_wait(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits_of_two_steps(method, monkeypatch) == WAITING.get(method, set())


@pytest.mark.usefixtures("tiny")
def test_parts_and_a_moving_average_never_make_the_host_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits_of_two_steps("crd", monkeypatch, training__micro_batches=2, training__ema_decay=0.9) == set()


def test_list_of_methods_that_wait_only_grows_shorter() -> None:
    assert len(WAITING) <= 1
    assert set(WAITING) <= set(NAMES)


@pytest.mark.parametrize(
    "waiting",
    [
        lambda tensor: tensor.sum().item(),
        lambda tensor: bool((tensor > 0).all()),
        lambda tensor: tensor.tolist(),
        lambda tensor: tensor.cpu(),
        lambda tensor: tensor.numpy(),
        lambda tensor: tensor[tensor > 0],
        lambda tensor: tensor[[0, 1]],
        lambda tensor: (tensor > 0).nonzero(),
        lambda tensor: torch.tensor([1.0, 2.0]) + tensor[:2],
        lambda tensor: torch.linalg.svd(tensor.view(2, 2)),
    ],
)
def test_every_way_to_wait_is_seen(waiting: object) -> None:
    assert callable(waiting)
    with HostWaits() as waits:
        waiting(torch.arange(4.0))
    assert waits.seen
