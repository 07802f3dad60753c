"""Which stage of the student learns from which of the teacher: a plan for any two networks, without wiring.

Maps are matched in order, one to one, so that their relative depth and their stride (image size over map size) differ
as little as possible; the last is matched with the last. The first map, the stem's in most networks, is left out.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from compressor.distiller import Link, NetworkSpec, Pair, StageSpec
from compressor.errors import UnsupportedPair


@dataclass(frozen=True)
class StageMatch:
    """Positions of a matched pair in the two lists of maps, the first map 0."""

    student: int
    teacher: int


def parse_stages(setting: str, text: str | None) -> tuple[StageMatch, ...] | None:
    """Read a user's matching such as ``"1:1,2:3"``, student first; None stays None.

    Args:
        setting: its name, for messages.

    Raises:
        ValueError: it is not of that form, or names a student's stage twice.
    """
    if text is None:
        return None
    if not re.fullmatch(r"\s*\d+\s*:\s*\d+\s*(,\s*\d+\s*:\s*\d+\s*)*", text):
        raise ValueError(f'{setting} must be student:teacher pairs such as "1:1,2:3", got {text!r}')
    pairs = [part.split(":") for part in text.split(",")]
    matches = tuple(StageMatch(int(student), int(teacher)) for student, teacher in pairs)
    if len({match.student for match in matches}) < len(matches):
        raise ValueError(f"{setting} names a stage of the student twice: {text!r}")
    return matches


def match_stages(pair: Pair, method: str, wanted: str | None = None, *, stem: bool = False) -> tuple[StageMatch, ...]:
    """Match the stages of both networks: as wanted, or by relative depth and stride.

    Args:
        pair: both networks, with their maps. method: for messages.
        wanted: the setting ``stages``, see `parse_stages`; None finds a plan.
        stem: whether the first map takes part too.

    Returns:
        matches in the student's order; as many as the network with fewer maps has, less the stem.

    Raises:
        UnsupportedPair: a network shows no maps, or has no such stage.
    """
    teacher = pair.require_teacher(method)
    for network in (pair.student, teacher):
        if len(network.stages) < (1 if stem or wanted else 2):
            shown = "one" if network.stages else "none"
            raise UnsupportedPair(f"{method} needs feature maps, and {network.name} shows {shown}")
    chosen = parse_stages(f"{method}.stages", wanted)
    if chosen is not None:
        _check_present(chosen, pair.student, teacher, method)
        return chosen
    first = 0 if stem else 1
    return _aligned(pair.student.stages, teacher.stages, first)


def match_last(pair: Pair, method: str, wanted: str | None = None) -> StageMatch:
    """Return the one match of methods that look at a single map: the wanted one, or the last maps of both.

    Raises:
        UnsupportedPair: as `match_stages`, or more than one match is wanted.
    """
    matches = match_stages(pair, method, wanted)
    if wanted is not None and len(matches) != 1:
        raise UnsupportedPair(f"{method} looks at one stage, and {method}.stages names {len(matches)}")
    return matches[-1]


def _check_present(matches: Sequence[StageMatch], student: NetworkSpec, teacher: NetworkSpec, method: str) -> None:
    for network, side in ((student, "student"), (teacher, "teacher")):
        for match in matches:
            number: int = getattr(match, side)
            if number >= len(network.stages):
                last = len(network.stages) - 1
                raise UnsupportedPair(
                    f"{network.name} has stages 0 to {last}, not {number}",
                    hint=f"--set method.{method}.stages={len(student.stages) - 1}:{len(teacher.stages) - 1}",
                )


def _aligned(student: Sequence[StageSpec], teacher: Sequence[StageSpec], first: int) -> tuple[StageMatch, ...]:
    """Match every map of the shorter list with one of the longer, in order, at the least cost, the last with the last.

    A dynamic programme: ``best[i][j]`` is the least cost of matching the first i + 1 of the shorter, i with j.
    """
    swapped = len(student) > len(teacher)
    short, long = (teacher, student) if swapped else (student, teacher)
    rows, columns = range(first, len(short)), range(first, len(long))
    best: dict[tuple[int, int], tuple[float, tuple[int, ...]]] = {}
    for row in rows:
        for column in columns:
            before = [best[row - 1, earlier] for earlier in columns if earlier < column] if row > first else [(0.0, ())]
            reachable = [value for value in before if math.isfinite(value[0])]
            cost, way = min(reachable, default=(math.inf, ()))
            best[row, column] = (cost + _cost(short, row, long, column), (*way, column))
    _, way = best[len(short) - 1, len(long) - 1]
    pairs = zip(rows, way, strict=True)
    return tuple(StageMatch(column, row) if swapped else StageMatch(row, column) for row, column in pairs)


def _cost(one: Sequence[StageSpec], at: int, other: Sequence[StageSpec], there: int) -> float:
    depth = abs((at + 1) / len(one) - (there + 1) / len(other))
    return depth + abs(_stride(one, at) - _stride(other, there))


def _stride(stages: Sequence[StageSpec], at: int) -> float:
    """How far a map is reduced, in halvings of the images' sides against the largest map of its network."""
    largest = max(stage.height * stage.width for stage in stages)
    return math.log2(largest / (stages[at].height * stages[at].width)) / 2


def link_stages(pair: Pair, match: StageMatch, adapter: str = "", module: nn.Module | None = None) -> Link:
    """Describe a match for `Distiller.plan`.

    Args:
        adapter: in words; empty says how maps of two sizes meet, by averaging the larger.
        module: whose parameters the adapter adds.
    """
    assert pair.teacher is not None, "the method matched stages without a teacher"
    ours, theirs = pair.student.stages[match.student], pair.teacher.stages[match.teacher]
    meeting = "none" if (ours.height, ours.width) == (theirs.height, theirs.width) else "the larger averaged down"
    return Link(
        student=_shown(ours), teacher=_shown(theirs), adapter=adapter or meeting, parameters=_parameters(module)
    )


def link_embeddings(pair: Pair, adapter: str = "none", module: nn.Module | None = None) -> Link:
    """Describe the join of both embeddings for `Distiller.plan`; arguments as `link_stages`."""
    assert pair.teacher is not None, "the method joined embeddings without a teacher"
    return Link(
        student=f"embedding {pair.student.embedding_width}",
        teacher=f"embedding {pair.teacher.embedding_width}",
        adapter=adapter,
        parameters=_parameters(module),
    )


def _shown(stage: StageSpec) -> str:
    return f"{stage.name} {stage.channels}x{stage.height}x{stage.width}"


def _parameters(module: nn.Module | None) -> int:
    return 0 if module is None else sum(parameter.numel() for parameter in module.parameters())
