"""Whole optimiser steps of the official training loops against the project's own step, in float64.

The networks are the zoo's, the batches become parts through `SlotPlan`, the steps are `Lane.step`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import timm
import torch
from oracle_io import Oracle, close, oracle_folder
from torch import Tensor, nn

import compressor_zoo
from compressor.config.settings import RuntimeConfig, TrainingConfig
from compressor.distiller import Batch, Distiller, ModelOutput, NetworkSpec, Pair, Phase, Terms
from compressor.engine.lanes import Lane
from compressor.engine.parts import Part
from compressor.engine.runtime import Runtime
from compressor.engine.views import SlotPlan
from compressor.models.specs import network_spec
from compressor.models.taps import TappedModel, Wanted
from compressor.registry import load_method

FOLDER = oracle_folder("trajectories")
METHODS = Oracle(FOLDER).methods() if FOLDER.is_dir() else []
EVERYTHING = Wanted(stages=True, embedding=True)
LOSS_TOLERANCE = 1e-7
WEIGHT_TOLERANCE = 1e-5

# Where the official names of a method's own state are found in ours.
RENAMED = {
    "fitnet": {"regressor.": "regressors.0."},
    "crd": {
        "crd.embed_s.linear.": "embed_student.linear.",
        "crd.embed_t.linear.": "embed_teacher.linear.",
        "crd.contrast.memory_v1": "student_memory",
        "crd.contrast.memory_v2": "teacher_memory",
    },
    "sskd": {"student.proj_head.": "student_head.", "teacher.proj_head.": "teacher_head."},
}


def settings_of(method: str, hyper: dict[str, Any]) -> dict[str, Any]:
    """Translate the official script's settings into ours."""
    if method == "sskd":
        kept = ("ce_weight", "kd_weight", "tf_weight", "ss_weight")
        renamed = {"kd_T": "kd_temperature", "tf_T": "tf_temperature", "ss_T": "ss_temperature"}
        renamed |= {"ratio_tf": "tf_ratio", "ratio_ss": "ss_ratio"}
        return {key: hyper[key] for key in kept} | {ours: hyper[theirs] for theirs, ours in renamed.items()}
    common = {"ce_weight": hyper["gamma"], "kd_weight": hyper["alpha"], "kd_temperature": hyper["kd_T"]}
    if method == "crd":
        own = {"feature_dim": "feat_dim", "negatives": "nce_k", "temperature": "nce_t", "momentum": "nce_m"}
        settings = {ours: hyper[theirs] for ours, theirs in own.items()}
        return common | settings | {"crd_weight": hyper["beta"]}
    return common | ({"hint_weight": hyper["beta"]} if method == "fitnet" else {})


def weight_of(term: str, hyper: dict[str, Any]) -> float:
    """Return what the raw value of one of our terms was multiplied by."""
    official = {"ce": "gamma", "kd": "alpha", "hint": "beta", "crd": "beta"}
    return float(hyper[f"{term}_weight"] if f"{term}_weight" in hyper else hyper[official[term]])


@dataclass
class Trajectory:
    """One file of the folder, its networks built, and a lane at its first step."""

    method: str
    meta: dict[str, Any]
    tensors: dict[str, Tensor]
    teacher: TappedModel
    lane: Lane
    seen: list[Terms] = field(default_factory=list)

    def run(self) -> None:
        """Take every step of the file."""
        plan = SlotPlan.of([self.lane.needs])
        for step, (images, labels) in enumerate(zip(self.tensors["images"], self.tensors["labels"], strict=True)):
            slots = torch.stack([slot.views.transform(images, slot.view) for slot in plan.slots], dim=1)
            answers = plan.answers(self.teacher, slots)
            self.lane.step(
                [
                    Part(
                        images=plan.select(slots, self.lane.needs.views),
                        batch=self._batch(labels, step),
                        teacher=plan.answer_for(self.lane.needs, answers),
                        weight=1.0,
                    )
                ]
            )

    def _batch(self, labels: Tensor, step: int) -> Batch:
        index = self.tensors.get("indices")
        contrast = self.tensors.get("contrast_indices")
        return Batch(
            labels=labels,
            views=self.lane.needs.views.count,
            epoch=0,
            step=step,
            progress=0.0,
            index_or_none=None if index is None else index[step],
            contrast_or_none=None if contrast is None else contrast[step],
        )


def network(name: str, num_classes: int, tensors: dict[str, Tensor], prefix: str) -> nn.Module:
    assert compressor_zoo.ARCHITECTURES
    net = timm.create_model(f"cifar_{name}", num_classes=num_classes).double()
    state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    net.load_state_dict({key: value for key, value in state.items() if not key.startswith("proj_head")})
    return net


def spec(tapped: TappedModel, name: str, images: Tensor) -> NetworkSpec:
    # The shapes are asked for in float32: whoever looks at a network shows it zeros of that type.
    found = network_spec(tapped.float(), name, (3, images.shape[-2], images.shape[-1]), wanted=EVERYTHING)
    tapped.double()
    return found


def build(method: str) -> Trajectory:
    meta, stored = Oracle(FOLDER).files(method)
    tensors = {key: value.double() if value.is_floating_point() else value for key, value in stored.items()}
    branch = "backbone." if method == "sskd" else ""
    networks = {
        role: TappedModel(network(meta[role], meta["num_classes"], tensors, f"{role}.{branch}"), owner=role)
        for role in ("teacher", "student")
    }
    size = meta["hyper"].get("n_data", 50)
    pair = Pair(
        student=spec(networks["student"], meta["student"], tensors["images"]),
        teacher=spec(networks["teacher"], meta["teacher"], tensors["images"]),
        num_classes=meta["num_classes"],
        train_size=size,
        class_counts=(size,) * meta["num_classes"],
    )
    # The networks went through float32, which their stored values survive.
    kind = load_method(method)
    distiller = kind(kind.Config(**settings_of(method, meta["hyper"])), pair).double()
    load_own(distiller, method, tensors)
    seen: list[Terms] = []
    lane = make_lane(networks["student"], distiller, meta["hyper"]["lr"], seen)
    return Trajectory(method, meta, tensors, networks["teacher"].eval().requires_grad_(False), lane, seen)


def load_own(distiller: Distiller[Any], method: str, tensors: dict[str, Tensor]) -> None:
    state = {our_name(method, key): value for key, value in tensors.items() if our_name(method, key)}
    rest = distiller.load_state_dict(state, strict=False)
    assert not rest.unexpected_keys
    assert set(rest.missing_keys) <= {"student_constant", "teacher_constant"}  # set at the first step


def our_name(method: str, key: str) -> str:
    for theirs, ours in RENAMED.get(method, {}).items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return ""


def make_lane(student: TappedModel, distiller: Distiller[Any], lr: float, seen: list[Terms]) -> Lane:
    last = distiller.phases()[-1]

    def recorded(batch: Batch, answer: ModelOutput, teacher: ModelOutput) -> Terms:
        terms = last.terms(batch, answer, teacher)
        seen.append({name: value.detach() for name, value in terms.items()})
        return terms

    phase: Phase = replace(last, terms=recorded)
    training = TrainingConfig(lr=lr, momentum=0.9, weight_decay=5e-4, schedule="constant")
    lane = Lane(
        name="oracle",
        student=student,
        distiller=distiller,
        training=training,
        seed=0,
        runtime=Runtime(RuntimeConfig(device="cpu")),
        phases=(phase,),
    )
    lane.begin()
    lane.rate.set_for(0)
    return lane


def expected_of(run: Trajectory) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield the official name, what it was after the steps, and ours, for every tensor that both have."""
    student = run.lane.module.student.net.state_dict()
    own = run.lane.module.distiller.state_dict()
    for key, want in run.tensors.items():
        if not key.startswith("expected."):
            continue
        name = key.removeprefix("expected.")
        ours = our_name(run.method, name)
        if ours:
            yield name, want, own[ours]
        elif name.startswith("student."):
            yield name, want, student[name.removeprefix("student.").removeprefix("backbone.")]


@pytest.mark.parametrize("method", METHODS)
def test_steps_of_our_loop_equal_those_of_the_official_one(method: str) -> None:
    run = build(method)
    run.run()
    assert len(run.seen) == run.meta["steps"] == len(run.meta["log"])
    for got, logged in zip(run.seen, run.meta["log"], strict=True):
        for term, value in got.items():
            weight = weight_of(term, run.meta["hyper"])
            want = logged.get(term, logged.get("method"))
            assert value.item() == pytest.approx(weight * want, rel=LOSS_TOLERANCE, abs=1e-12), term
        assert sum(value.item() for value in got.values()) == pytest.approx(logged["total"], rel=LOSS_TOLERANCE)
    compared = list(expected_of(run))
    assert len([name for name, _, _ in compared if name.startswith("student.")]) >= len(
        run.lane.module.student.net.state_dict()
    )
    for name, want, ours in compared:
        assert close(ours, want, rtol=WEIGHT_TOLERANCE, atol=1e-9), name


@pytest.mark.parametrize("method", METHODS)
def test_teacher_of_the_steps_stays_as_it_was(method: str) -> None:
    run = build(method)
    run.run()
    branch = "teacher.backbone." if method == "sskd" else "teacher."
    state = run.teacher.net.state_dict()
    assert all(torch.equal(value, run.tensors[branch + name]) for name, value in state.items())


def test_crd_constants_are_those_of_the_first_step() -> None:
    if "crd" not in METHODS:
        pytest.skip(f"no crd at {FOLDER}")
    run = build("crd")
    run.run()
    own = run.lane.module.distiller.state_dict()
    official = run.tensors["expected.crd.contrast.params"]
    assert own["student_constant"].item() == pytest.approx(official[2].item(), rel=1e-6)
    assert own["teacher_constant"].item() == pytest.approx(official[3].item(), rel=1e-6)


def test_every_method_of_the_folder_is_compared() -> None:
    if not METHODS:
        pytest.skip(f"no trajectories at {FOLDER}")
    assert set(METHODS) <= {"kd", "fitnet", "crd", "sskd"}
