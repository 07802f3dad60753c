"""The heading of a run: who teaches, who learns, from what, how, and where it is kept."""

from dataclasses import fields
from typing import Any

from torch import nn

from compressor.data.types import DataSet
from compressor.engine.jobs import Job
from compressor.engine.session import Session, Teacher
from compressor.events import Fact
from compressor.models.create import parameter_count
from compressor.storage import readable_bytes


def about_data(data: DataSet) -> Fact:
    """Say what is learned from."""
    scenario = data.scenario.describe()
    part = f", {len(data.train):,} for the student ({scenario})" if scenario else ""
    held = 0 if data.val is None else len(data.val)
    text = (
        f"{data.name}   {data.num_classes} classes, {len(data.teacher_train):,} train{part}, {held:,} held out, "
        f"{len(data.test):,} test, {len(data.unreadable)} unreadable   {'x'.join(map(str, data.image_size))}"
    )
    return Fact(title="Data", text=text)


def about_teacher(teacher: Teacher, data: DataSet) -> Fact:
    """Say who teaches, and how well it did when it was scored."""
    where = "held-out" if data.val is not None else "training"
    text = f"{teacher.name}   {_millions(teacher.tapped.net)}   top-1 {teacher.top1:.1f} on {where} images"
    return Fact(title="Teacher", text=text)


def about_lane(job: Job, session: Session) -> list[Fact]:
    """Say who learns, by which method, and whether the run is new."""
    config, net, lane = job.cell.config, job.ready.student.built.module, job.cell.name
    share = ""
    if session.teacher is not None:
        share = f"   {100 * parameter_count(net) / parameter_count(session.teacher.tapped.net):.0f} % of teacher"
    settings = ", ".join(f"{key} {value}" for key, value in _telling(job.settings).items())
    training = config.training
    own = job.method.memory_bytes(job.settings, job.ready.pair)
    memory = f"   about {readable_bytes(own)} of its own" if own else ""
    return [
        Fact(lane=lane, title="Student", text=f"{config.student.name}   {_millions(net)}{share}"),
        Fact(
            lane=lane,
            title="Method",
            text=f"{config.method.name} ({settings})   lr {training.lr:g}   {training.epochs} epochs{memory}",
        ),
        Fact(lane=lane, title="Run", text=f"{job.cell.folder}   ({_state(job)})"),
    ]


def _telling(settings: Any) -> dict[str, Any]:
    """Return a method's own settings, and of those that methods share the ones that differ from their default."""
    own = vars(type(settings)).get("__annotations__", {})
    values = {item.name: (getattr(settings, item.name), item.default) for item in fields(settings)}
    return {
        key: value for key, (value, usual) in values.items() if value is not None and (key in own or value != usual)
    }


def _state(job: Job) -> str:
    if job.resumed is None:
        return "new"
    return f"resuming at step {job.resumed.step}" + (f", phase {job.resumed.phase + 1}" if job.resumed.phase else "")


def _millions(net: nn.Module) -> str:
    return f"{parameter_count(net) / 1e6:.1f} M params"
