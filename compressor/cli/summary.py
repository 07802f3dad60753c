"""The end of a run in a few lines: what the student is worth, what it cost, how to load it, what to do next."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressor.cli.tables import aligned
from compressor.cli.wording import accuracy, big, duration, extras, size

if TYPE_CHECKING:
    from compressor.engine.rehearsal import Rehearsal

_GROUPS = ("many", "medium", "few")


@dataclass(frozen=True)
class Spent:
    """What this call of the command took: wall and CPU seconds; ``before`` where the run was complete already."""

    seconds: float
    cpu_seconds: float
    before: bool = False


def done_block(document: Mapping[str, Any], spent: Spent, *, next_command: str) -> str:
    """Return the last lines of a run on a terminal.

    Args:
        document: of `compressor.engine.results.RunResult`.
    """
    metrics, student, teacher = document["metrics"], document["student"], document.get("teacher") or {}
    cost = document["cost"]
    if spent.before:
        title = f"Done before (trained in {duration(cost['train_seconds'])})"
    else:
        title = (
            f"Done in {duration(spent.seconds)} ({spent.cpu_seconds:,.0f} CPU-seconds, peak {size(cost['peak_bytes'])})"
        )
    requires = "".join(f"import {name}; " for name in student.get("requires", ()))
    rows = [
        title,
        f"  {_accuracies(metrics)}",
        *(f"  {line}" for line in _groups(metrics)),
        *(f"  {line}" for line in (*_costs(student, teacher), *extras(student))),
        f"  model   {student['folder']}",
    ]
    if student.get("load"):
        rows.append(f"  load    {requires}{student['load']}")
    rows.append(f"  next    {next_command}   (one seed proves little)")
    return "\n".join(rows)


def done_line(document: Mapping[str, Any], spent: Spent) -> str:
    """Return the last line of a run in a log."""
    metrics = document["metrics"]
    teacher = f" teacher={metrics['teacher_top1']:.1f}" if "teacher_top1" in metrics else ""
    times = f"seconds={spent.seconds:.0f} cpu_seconds={spent.cpu_seconds:.0f}"
    return f"done top1={metrics['top1']:.1f}{teacher} {times}"


def next_compare(document: Mapping[str, Any], data: str, teacher: str, student: str) -> str:
    """Return the command that compares this method with plain distillation over three seeds."""
    methods = ",".join(dict.fromkeys(["kd", document["method"]]))
    return shlex.join(
        ["compress", "compare", "--methods", methods, "-t", teacher, "-s", student, "-d", data, "--seeds", "3"]
    )


def rehearsed(rehearsal: "Rehearsal") -> str:
    """Return what ``--dry-run`` found out."""
    phases = [
        (phase.name, f"{phase.steps:,}", f"{1000 * phase.seconds_per_step:.1f}", duration(phase.seconds))
        for phase in rehearsal.phases
    ]
    lines = [*_joined(rehearsal), aligned(("phase", "steps", "ms/step", "time"), phases), ""]
    lines.append(f"time    about {duration(rehearsal.seconds)}, without evaluation and start-up")
    lines.append(f"memory  {size(rehearsal.memory_bytes)} at most so far, {size(rehearsal.method_bytes)} of the method")
    lines.append(f"disk    {size(rehearsal.disk_bytes)} in {rehearsal.folder}")
    return "\n".join([*lines, "Nothing was written."])


def _joined(rehearsal: "Rehearsal") -> list[str]:
    """Return the plan: which place of the student learns from which of the teacher's, through what."""
    if not rehearsal.plan:
        return []
    rows = [(link.student, link.teacher, link.adapter, f"{link.parameters:,}") for link in rehearsal.plan]
    return [aligned(("student", "teacher", "adapter", "parameters added"), rows), ""]


def _accuracies(metrics: Mapping[str, Any]) -> str:
    parts = [f"student top-1  {accuracy(metrics['top1'])}"]
    if "teacher_top1" in metrics:
        parts.append(f"teacher {accuracy(metrics['teacher_top1'])}")
    if "peer_top1" in metrics:
        parts.append(f"peer {accuracy(metrics['peer_top1'])}")
    if "agreement" in metrics:
        parts.append(f"agreement {metrics['agreement']:.1f} %")
    if "ece" in metrics:
        parts.append(f"ECE {metrics['ece']:.3f}")
    return "   ".join(parts)


def _groups(metrics: Mapping[str, Any]) -> list[str]:
    """Tell the accuracy of classes with many, medium and few training images, where a run has it."""
    parts = [f"{name} {accuracy(metrics[f'{name}_top1'])}" for name in _GROUPS if f"{name}_top1" in metrics]
    return [f"top-1 by training images  {'   '.join(parts)}"] if parts else []


def _costs(student: Mapping[str, Any], teacher: Mapping[str, Any]) -> list[str]:
    timing, theirs = student["latency_ms"], teacher.get("latency_ms")
    versus = f" vs {big(teacher['parameters'])}" if "parameters" in teacher else ""
    slower = f" vs {theirs['median']:.1f} ms" if theirs else ""
    how = f"(batch 1, {timing['threads']} threads, median of {timing['runs']})"
    return [f"size {big(student['parameters'])}{versus}", f"latency {timing['median']:.1f} ms{slower} {how}"]
