"""Losses, gradients and selections of the methods against numbers of the official implementations, in float64.

Everything about a case (its settings, shapes and name) comes from the folder: others of the same layout must pass too.
"""

from typing import Any

import pytest
import torch
from oracle_io import Case, Oracle, close, oracle_folder
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import Batch, Distiller, ModelOutput, NetworkSpec, Pair, StageSpec
from compressor.functional import cosine_matrix, rank_of_target, select_by_error_level, soft_target_kl
from compressor.modules import projection_head
from compressor_plugins.crd import CRD, CRDConfig
from compressor_plugins.fitnet import FitNet, FitNetConfig
from compressor_plugins.kd import KD, KDConfig
from compressor_plugins.sskd import SSKD, SSKDConfig

ORACLE = Oracle(oracle_folder("losses"))


def cases(method: str, given: str = "") -> list[str]:
    """Name the cases of a method, or those with an input of a given name; none where the folder lacks the method."""
    if method not in ORACLE.methods():
        return []
    return [name for name in ORACLE.cases(method) if not given or given in ORACLE.load(method, name).inp]


def network(*, classes: int, width: int = 0, maps: Tensor | None = None) -> NetworkSpec:
    stages: tuple[StageSpec, ...] = ()
    if maps is not None:
        _, channels, height, across = maps.shape
        stages = (StageSpec(name="stage0", channels=channels, height=height, width=across),)
    return NetworkSpec(name="given", stages=stages, preacts=False, embedding_width=width, num_classes=classes)


def pair(student: NetworkSpec, teacher: NetworkSpec, train_size: int = 10) -> Pair:
    halves = (train_size // 2, train_size - train_size // 2)
    return Pair(
        student=student,
        teacher=teacher,
        num_classes=student.num_classes,
        train_size=train_size,
        class_counts=halves + (0,) * (student.num_classes - 2),
    )


def batch(labels: Tensor, *, views: int = 1, step: int = 0, **more: Any) -> Batch:
    return Batch(labels=labels, views=views, epoch=0, step=step, progress=0.0, **more)


def same(got: Tensor, want: float | Tensor) -> bool:
    return close(got.detach(), want, rtol=1e-9, atol=1e-15)


def leaf(value: Tensor) -> Tensor:
    return value.clone().requires_grad_()


def gradient_is(value: Tensor | nn.Parameter, want: Tensor) -> bool:
    assert value.grad is not None
    return close(value.grad, want)


@pytest.mark.parametrize("name", cases("kd"))
def test_kd(name: str) -> None:
    case = ORACLE.load("kd", name)
    student, teacher = leaf(case.inp["logits_s"]), leaf(case.inp["logits_t"])
    spec = network(classes=student.shape[1])
    method = KD(KDConfig(kd_temperature=case.hyper["T"], ce_weight=0.0, kd_weight=1.0), pair(spec, spec))
    terms = method.terms(
        batch(torch.zeros(len(student), dtype=torch.int64)), ModelOutput(logits=student), ModelOutput(logits=teacher)
    )
    torch.autograd.backward(terms["kd"])
    assert terms["ce"].item() == 0
    assert same(terms["kd"], case.out["loss"])
    assert gradient_is(student, case.grad["logits_s"])
    assert teacher.grad is None  # where the case records one, nothing was detached; here the teacher always is


@pytest.mark.parametrize("name", cases("fitnet"))
def test_fitnet(name: str) -> None:
    case = ORACLE.load("fitnet", name)
    student, teacher = leaf(case.inp["f_s"]), case.inp["f_t"]
    config = FitNetConfig(hint_weight=1.0, ce_weight=0.0, stages="0:0")
    method = FitNet(config, pair(network(classes=2, maps=student), network(classes=2, maps=teacher))).double()
    if case.param:
        missing, unexpected = method.regressors[0].load_state_dict(case.param, strict=False)
        assert unexpected == []
        assert all("running" in key or "num_batches" in key for key in missing)
        assert close(method.train().regressors[0](student).detach(), case.out["regressed"], rtol=1e-9)
    else:
        method.regressors[0] = nn.Identity()  # the loss alone
    logits = torch.zeros(len(student), 2, dtype=torch.float64, requires_grad=True)
    terms = method.train().terms(
        batch(torch.zeros(len(student), dtype=torch.int64)),
        ModelOutput(logits=logits, stages=(student,)),
        ModelOutput(logits=logits, stages=(teacher,)),
    )
    torch.autograd.backward(terms["hint"])
    assert same(terms["hint"], case.out["loss"])
    assert gradient_is(student, case.grad["f_s"])
    parameters = dict(method.regressors[0].named_parameters())
    assert set(parameters) == set(case.param)
    for key, parameter in parameters.items():
        if key == "conv.bias":  # zero up to rounding: BatchNorm takes the mean away
            assert parameter.grad is not None
            assert parameter.grad.abs().max() < 1e-12
        else:
            assert gradient_is(parameter, case.grad[key])


@pytest.mark.parametrize("name", cases("crd"))
def test_crd(name: str) -> None:
    case = ORACLE.load("crd", name)
    method = crd(case)
    calls = sorted(key.removeprefix("index") for key in case.inp if key.startswith("index"))
    assert calls
    for number, call in enumerate(calls):
        student, teacher = leaf(case.inp[f"f_s{call}"]), leaf(case.inp[f"f_t{call}"])
        logits = torch.zeros(len(student), 2, dtype=torch.float64)
        seen = batch(
            torch.zeros(len(student), dtype=torch.int64),
            step=number,
            index_or_none=case.inp[f"index{call}"],
            contrast_or_none=case.inp[f"contrast_idx{call}"],
        )
        terms = method.terms(
            seen, ModelOutput(logits=logits, embedding=student), ModelOutput(logits=logits, embedding=teacher)
        )
        torch.autograd.backward(terms["crd"])  # the banks carry no gradient: that of the sum is the sum of these
        method.after_step(seen)
        assert same(terms["crd"], case.out[f"loss_call{call}"])
        assert same(method.student_constant, case.out[f"Z_v1_after{call}"])
        assert same(method.teacher_constant, case.out[f"Z_v2_after{call}"])
        assert close(method.student_memory, case.out[f"memory_v1_after{call}"], rtol=1e-9)
        assert close(method.teacher_memory, case.out[f"memory_v2_after{call}"], rtol=1e-9)
        assert gradient_is(student, case.grad[f"f_s{call}"])
        assert teacher.grad is None
    assert gradient_is(method.embed_student.linear.weight, case.grad["embed_s.linear.weight"])
    assert gradient_is(method.embed_teacher.linear.weight, case.grad["embed_t.linear.weight"])


def crd(case: Case) -> CRD:
    hyper = case.hyper
    config = CRDConfig(
        feature_dim=hyper["feat_dim"],
        negatives=hyper["K"],
        temperature=hyper["T"],
        momentum=hyper["momentum"],
        crd_weight=1.0,
        ce_weight=0.0,
    )
    widths = (case.param["embed_s.linear.weight"].shape[1], case.param["embed_t.linear.weight"].shape[1])
    student, teacher = (network(classes=2, width=width) for width in widths)
    method = CRD(config, pair(student, teacher, hyper["n_data"])).double()
    state = {
        key.replace("embed_s.", "embed_student.").replace("embed_t.", "embed_teacher."): value
        for key, value in case.param.items()
    }
    state |= {"student_memory": case.inp["memory_v1"], "teacher_memory": case.inp["memory_v2"]}
    method.load_state_dict(method.state_dict() | state)
    return method


def sskd(hyper: dict[str, Any], width: int, teacher_width: int, classes: int) -> SSKD:
    """The method with heads that pass on what they get: the cases give what comes out of the heads."""
    settings = {f"{key}_weight": hyper[f"{key}_weight"] for key in ("ce", "kd", "tf", "ss")}
    settings |= {f"{key}_temperature": hyper[f"{key}_T"] for key in ("kd", "tf", "ss")}
    settings |= {f"{key}_ratio": hyper[f"ratio_{key}"] for key in ("tf", "ss")}
    networks = (network(classes=classes, width=one) for one in (width, teacher_width))
    method = SSKD(SSKDConfig(**settings), pair(*networks)).double()
    without_heads(method)
    return method


def without_heads(method: Distiller[Any]) -> None:
    for name in ("student_head", "teacher_head"):
        setattr(method, name, nn.Identity())


def answers(case: Case) -> tuple[ModelOutput, ModelOutput, Tensor, Tensor]:
    logits, embedding = leaf(case.inp["output_s"]), leaf(case.inp["rep_s"])
    teacher = ModelOutput(logits=case.inp["output_t"], embedding=case.inp["rep_t"])
    return ModelOutput(logits=logits, embedding=embedding), teacher, logits, embedding


def sskd_terms(case: Case) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    student, teacher, logits, embedding = answers(case)
    method = sskd(case.hyper, embedding.shape[1], case.inp["rep_t"].shape[1], logits.shape[1])
    return method.terms(batch(plain_labels(case), views=4), student, teacher), logits, embedding


def plain_labels(case: Case) -> Tensor:
    labels = case.inp["target"]
    images = len(case.inp["output_s"]) // 4
    return labels if len(labels) == images else labels[::4]


def stable(case: Case) -> bool:
    """Whether the official selection, whose sort is not stable, took the rows that a stable one takes."""
    return not (case.meta["tie_at_cut_tf"] or case.meta["tie_at_cut_ss"]) or bool(
        case.meta.get("equals_stable_ascending_tiebreak", False)
    )


@pytest.mark.parametrize("name", [name for name in cases("sskd") if stable(ORACLE.load("sskd", name))])
def test_sskd(name: str) -> None:
    case = ORACLE.load("sskd", name)
    terms, logits, embedding = sskd_terms(case)
    assert set(terms) == {"ce", "kd", "tf", "ss"}
    for key, term in terms.items():
        assert same(term, case.hyper[f"{key}_weight"] * case.out[f"loss_{key}"])
    total = torch.stack(list(terms.values())).sum()
    assert same(total, case.out["loss"])
    torch.autograd.backward(total)
    assert gradient_is(logits, case.grad["output_s"])
    assert gradient_is(embedding, case.grad["rep_s"])


@pytest.mark.parametrize("name", cases("sskd"))
def test_terms_of_sskd_that_do_not_hang_on_a_tie(name: str) -> None:
    case = ORACLE.load("sskd", name)
    terms, logits, embedding = sskd_terms(case)
    sure = {"ce", "kd"} | {key for key in ("tf", "ss") if not case.meta[f"tie_at_cut_{key}"]}
    for key in sure:
        assert same(terms[key], case.hyper[f"{key}_weight"] * case.out[f"loss_{key}"])
    for key, value in (("tf", logits), ("ss", embedding)):
        wanted = case.grad.get(f"{'output' if key == 'tf' else 'rep'}_s__of_loss_{key}")
        if key in sure and wanted is not None:
            (given,) = torch.autograd.grad(terms[key], value, retain_graph=True)
            assert close(given, case.hyper[f"{key}_weight"] * wanted)


@pytest.mark.parametrize("name", cases("sskd"))
def test_selection_of_sskd(name: str) -> None:
    case = ORACLE.load("sskd", name)
    images = len(case.inp["output_t"]) // 4
    own = torch.arange(images).repeat_interleave(3)
    turned = torch.arange(4 * images).reshape(images, 4)[:, 1:].flatten()
    similarities = {side: cosine_matrix(case.inp[f"rep_{side}"][turned], case.inp[f"rep_{side}"][::4]) for side in "st"}
    for side, similarity in similarities.items():
        assert close(similarity, case.out[f"{side}_simi"], rtol=1e-9)
    wanted = {
        "tf": (case.inp["output_t"][turned], plain_labels(case).repeat_interleave(3)),
        "ss": (similarities["t"], own),
    }
    for key, (scores, targets) in wanted.items():
        ranks = rank_of_target(scores, targets)
        keep = select_by_error_level(ranks, case.hyper[f"ratio_{key}"])
        official = case.out[f"index_{key}"]
        assert torch.equal(ranks, case.out[f"rank_{key}"].long())
        assert int((ranks > 0).sum()) == case.meta[f"n_wrong_{key}"]
        assert int(keep.sum()) == case.meta[f"n_kept_{key}"] == len(official)
        assert torch.equal(ranks[keep].sort().values, ranks[official.long()].sort().values)
        if not case.meta[f"tie_at_cut_{key}"]:
            assert set(keep.nonzero()[:, 0].tolist()) == set(official.tolist())
        weighted = soft_target_kl(scores, scores, case.hyper[f"{key}_T"], keep=keep)
        assert weighted.item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    "name", [name for name in cases("sskd_pretrain") if "rep" in ORACLE.load("sskd_pretrain", name).inp]
)
def test_head_phase_of_sskd(name: str) -> None:
    case = ORACLE.load("sskd_pretrain", name)
    projected = case.inp["rep"]
    images, width = len(projected) // 4, projected.shape[1]
    spec = network(classes=2, width=width)
    method = SSKD(SSKDConfig(), pair(spec, spec)).double()
    method.teacher_head = Given(projected)
    head = next(phase for phase in method.phases() if phase.name == "head")
    assert (head.trains, head.runs_student, head.artefact) == (("teacher_head",), False, True)
    teacher = ModelOutput(logits=torch.zeros(4 * images, 2), embedding=torch.zeros(4 * images, width))
    labels = torch.zeros(images, dtype=torch.int64)
    (term,) = head.terms(batch(labels, views=4), ModelOutput(owner="student"), teacher).values()
    torch.autograd.backward(term)
    assert same(term, case.out["loss"])
    assert gradient_is(method.teacher_head.answer, case.grad["rep"])


class Given(nn.Module):
    """A head that answers with what a case gives, whatever it is asked."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer.clone())

    def forward(self, embedding: Tensor) -> Tensor:
        assert embedding.shape == self.answer.shape
        return self.answer


@pytest.mark.parametrize(
    "name", [name for name in cases("sskd_pretrain") if "x" in ORACLE.load("sskd_pretrain", name).inp]
)
def test_head_itself(name: str) -> None:
    case = ORACLE.load("sskd_pretrain", name)
    embedding = case.inp["x"]
    head = projection_head(embedding.shape[1]).double()
    head.load_state_dict({key.removeprefix("proj_head."): value for key, value in case.param.items() if "proj" in key})
    classifier = (case.param["backbone.fc.weight"], case.param["backbone.fc.bias"])
    projected, logits = head(embedding), F.linear(embedding, *classifier)
    assert close(projected.detach(), case.out["rep"], rtol=1e-9)
    assert close(logits, case.out["logits"], rtol=1e-9)
    loss = projected.square().sum() + logits.sum()  # any scalar would do; this is the recorded one
    loss.backward()
    assert same(loss, case.out["loss"])
    assert gradient_is(head[0].weight, case.grad["proj_head.0.weight"])


def test_no_case_of_our_methods_is_passed_over() -> None:
    present = {"kd", "fitnet", "crd", "sskd", "sskd_pretrain"} & set(ORACLE.methods())
    if not present:
        pytest.skip(f"no losses at {ORACLE.folder}")
    assert all(cases(method) for method in present)
    if "sskd_pretrain" in present:
        assert set(cases("sskd_pretrain", given="rep") + cases("sskd_pretrain", given="x")) == set(
            cases("sskd_pretrain")
        )
