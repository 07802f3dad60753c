"""Runs many cells: groups that share a loop, one after the other, within one time budget for all of them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from compressor.comparison.budget import Budget
from compressor.engine.folders import finished
from compressor.engine.inputs import Objects
from compressor.engine.jobs import Cell, Outcome
from compressor.engine.runs import run_cells
from compressor.errors import CompressorError
from compressor.events import Fact, Listener


def run_groups(
    groups: Sequence[Sequence[Cell]],
    budget: Budget,
    *,
    listener: Listener,
    command: str,
    what: str = "",
    objects: Objects | None = None,
    after: Callable[[Sequence[Outcome]], Any] = lambda _: None,
) -> list[Outcome]:
    """Run cells group by group; finished ones are only read, also when the budget is spent.

    Args:
        groups: cells of one teacher, student and seed. what: the cells are, in words. objects: of a Python caller.
        after: is told all outcomes so far, after each group.

    Returns:
        One outcome a cell, in order.

    Raises:
        Stopped: somebody asked, or the budget is spent; the place is saved.
    """
    cells = [cell for group in groups for cell in group]
    done = sum(is_finished(cell) for cell in cells)
    told = f" ({what})" if what else ""
    listener(Fact(title="Cells", text=f"{len(cells)}{told}: {done} done, {len(cells) - done} to run"))
    outcomes: list[Outcome] = []
    for group in groups:
        left = None if all(map(is_finished, group)) else budget.left()
        timed = [replace(cell, config=_with_budget(cell.config, left)) for cell in group]
        outcomes += run_cells(timed, listener=listener, command=command, objects=objects)
        after(outcomes)
    return outcomes


def is_finished(cell: Cell) -> bool:
    """Say whether a cell's result is on disk.

    Raises:
        UsageError: its folder holds a run with other settings.
    """
    return finished(cell.folder, cell.config) is not None


def reason_of(outcome: Outcome) -> str:
    """Say why a cell has no result; empty where it has one."""
    failure = outcome.failure
    if failure is None:
        return ""
    return failure.message if isinstance(failure, CompressorError) else f"{type(failure).__name__}: {failure}"


def _with_budget(config: Any, seconds: float | None) -> Any:
    return replace(config, runtime=replace(config.runtime, time_budget=seconds))
