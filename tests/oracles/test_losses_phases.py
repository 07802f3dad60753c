"""Losses and gradients against official numbers: methods with phases of their own, fusions, and DKD and DIST.

As `test_losses`: everything about a case comes from the folder, in float64.
"""

from typing import Any

import pytest
import torch
from oracle_io import Case, Oracle, close, oracle_folder
from torch import Tensor, nn

from compressor.distiller import Batch, ModelOutput, NetworkSpec, Pair, StageSpec
from compressor_plugins.ab import AB, ABConfig, boundary_loss
from compressor_plugins.dist import DIST, DISTConfig
from compressor_plugins.dkd import DKD, DKDConfig
from compressor_plugins.fsp import FSP, FSPConfig, flow, flow_loss
from compressor_plugins.ft import FT, FTConfig, factor_loss
from compressor_plugins.kdsvd import KDSVD, KDSVDConfig, change_loss, leading_directions, stage_directions
from compressor_plugins.reviewkd import ReviewKD, ReviewKDConfig, pyramid_loss

ORACLE = Oracle(oracle_folder("losses"))
METHODS = {"ab", "dist", "dkd", "fsp", "ft", "kdsvd", "reviewkd"}


def cases(method: str, given: str = "", without: str = "") -> list[str]:
    """Name the cases of a method with a tensor ``given`` and none ``without``; none where the folder lacks it."""
    if method not in ORACLE.methods():
        return []
    found = {name: ORACLE.load(method, name).meta["tensors"] for name in ORACLE.cases(method)}
    return [name for name, tensors in found.items() if (not given or given in tensors) and without not in tensors]


def maps(case: Case, prefix: str) -> list[Tensor]:
    """Return ``prefix0``, ``prefix1``, ... in order, as leaves."""
    names = sorted(
        (name for name in case.inp if name.removeprefix(prefix).isdigit()), key=lambda name: (len(name), name)
    )
    return [leaf(case.inp[name]) for name in names]


def leaf(value: Tensor) -> Tensor:
    return value.clone().requires_grad_()


def network(
    stages: list[Tensor] | None = None, *, classes: int = 3, width: int = 0, preacts: bool = False
) -> NetworkSpec:
    specs = tuple(
        StageSpec(name=f"stage{number}", channels=one.shape[1], height=one.shape[2], width=one.shape[3])
        for number, one in enumerate(stages or [])
    )
    return NetworkSpec(name="given", stages=specs, preacts=preacts, embedding_width=width, num_classes=classes)


def pair(student: NetworkSpec, teacher: NetworkSpec) -> Pair:
    classes = student.num_classes
    return Pair(student=student, teacher=teacher, num_classes=classes, train_size=classes, class_counts=(1,) * classes)


def batch(labels: Tensor, epoch: int = 0) -> Batch:
    return Batch(labels=labels, views=1, epoch=epoch, step=0, progress=0.0)


def unlabelled(images: int) -> Batch:
    return batch(torch.zeros(images, dtype=torch.int64))


def every_stage(count: int) -> str:
    """Match stage 0 with stage 0, 1 with 1, and so on: the cases leave the stem out already."""
    return ",".join(f"{stage}:{stage}" for stage in range(count))


def same(got: Tensor, want: float | Tensor, rtol: float = 1e-9) -> bool:
    return close(got.detach(), want, rtol=rtol, atol=1e-15)


def gradient_is(value: Tensor, want: Tensor) -> bool:
    assert value.grad is not None
    return close(value.grad, want)


def gradients_are(case: Case, prefix: str, values: list[Tensor]) -> bool:
    """Compare those of the numbered maps that the case records: at least the first."""
    wanted = {
        number: case.grad[f"{prefix}{number}"] for number in range(len(values)) if f"{prefix}{number}" in case.grad
    }
    assert 0 in wanted
    return all(gradient_is(values[number], want) for number, want in wanted.items())


def load(module: nn.Module, case: Case, prefix: str) -> None:
    """Give a module the case's parameters of that prefix, all of them and no others."""
    state = {key.removeprefix(prefix): value for key, value in case.param.items() if key.startswith(prefix)}
    missing, unexpected = module.load_state_dict(state, strict=False)
    assert state
    assert unexpected == []
    assert all("running" in key or "num_batches" in key for key in missing)


@pytest.mark.parametrize("name", cases("dkd"))
def test_dkd(name: str) -> None:
    # In float64 none of these logits is large: where the official code says infinity, see tests/plugins/test_dkd.py.
    case = ORACLE.load("dkd", name)
    student, teacher = leaf(case.inp["logits_s"]), leaf(case.inp["logits_t"])
    spec = network(classes=student.shape[1])
    config = DKDConfig(
        tckd_weight=case.hyper["alpha"],
        nckd_weight=case.hyper["beta"],
        kd_temperature=case.hyper["T"],
        warmup_epochs=case.hyper["warmup_epochs"],
    )
    seen = batch(case.inp["target"], epoch=config.warmup_epochs - 1)  # counted from 0: the first with all of the weight
    terms = DKD(config, pair(spec, spec)).terms(seen, ModelOutput(logits=student), ModelOutput(logits=teacher))
    total = terms["tckd"] + terms["nckd"]
    torch.autograd.backward(total)
    assert config.ce_weight == case.hyper["ce_weight_in_script"]
    assert same(total, case.out["loss"])
    assert gradient_is(student, case.grad["logits_s"])
    assert teacher.grad is None


@pytest.mark.parametrize("name", cases("dist"))
def test_dist(name: str) -> None:
    case = ORACLE.load("dist", name)
    student, teacher = leaf(case.inp["logits_s"]), case.inp["logits_t"]
    rows, targets = (by_pixel(one) for one in (student, teacher))
    spec = network(classes=rows.shape[1])
    config = DISTConfig(
        inter_weight=case.hyper["beta"], intra_weight=case.hyper["gamma"], temperature=case.hyper["tau"]
    )
    terms = DIST(config, pair(spec, spec)).terms(
        unlabelled(len(rows)), ModelOutput(logits=rows), ModelOutput(logits=targets)
    )
    total = terms["inter"] + terms["intra"]
    torch.autograd.backward(total)
    assert same(total, case.out["loss"])
    assert gradient_is(student, case.grad["logits_s"])


def by_pixel(logits: Tensor) -> Tensor:
    """Turn logits of a segmentation (B, K, H, W) into rows, as the official code does; leave (B, K) as it is."""
    return logits.transpose(1, 3).flatten(0, 2) if logits.dim() == 4 else logits


@pytest.mark.parametrize("name", cases("ft", without="in/f_s"))
def test_paraphraser_of_ft(name: str) -> None:
    case = ORACLE.load("ft", name)
    given = case.inp["f_t"]
    method = ft(given, given, case)
    load(method.paraphraser, case, "")
    assert close(method.paraphraser(given).detach(), case.out["rec"], rtol=1e-9)
    phase = method.phases()[0]
    (term,) = phase.terms(unlabelled(len(given)), ModelOutput(owner="student"), ModelOutput(stages=(given,))).values()
    torch.autograd.backward(term)
    assert same(term, case.out["loss"])
    parameters = dict(method.paraphraser.named_parameters())
    assert all(gradient_is(parameters[key], want) for key, want in case.grad.items())


@pytest.mark.parametrize("name", cases("ft", given="out/factor_s"))
def test_ft(name: str) -> None:
    case = ORACLE.load("ft", name)
    student, teacher = leaf(case.inp["f_s"]), leaf(case.inp["f_t"])
    method = ft(student, teacher, case)
    load(method.paraphraser.eval(), case, "para.")
    load(method.translator.train(), case, "tran.")
    assert close(method.translator(student).detach(), case.out["factor_s"], rtol=1e-9)
    assert close(method.paraphraser.factor(teacher).detach(), case.out["factor_t"], rtol=1e-9)
    logits = torch.zeros(len(student), 3, dtype=torch.float64)
    terms = method.terms(
        unlabelled(len(student)),
        ModelOutput(logits=logits, stages=(student,)),
        ModelOutput(logits=logits, stages=(teacher,)),
    )
    torch.autograd.backward(terms["factor"])
    assert same(terms["factor"], case.out["loss"])
    assert gradient_is(student, case.grad["f_s"])
    assert teacher.grad is None
    parameters = {f"tran.{key}": value for key, value in method.translator.named_parameters()}
    wanted = {key: want for key, want in case.grad.items() if key.startswith("tran.")}
    assert wanted
    assert all(gradient_is(parameters[key], want) for key, want in wanted.items())


def ft(student: Tensor, teacher: Tensor, case: Case) -> FT:
    config = FTConfig(ft_weight=1.0, stages="0:0", paraphraser_rate=case.hyper["k"])
    return FT(config, pair(network([student]), network([teacher]))).double()


@pytest.mark.parametrize("name", cases("ft", given="in/f_s", without="out/factor_s"))
def test_factors_of_ft(name: str) -> None:
    case = ORACLE.load("ft", name)
    assert case.hyper["p1"] == 2
    student, teacher = leaf(case.inp["f_s"]), leaf(case.inp["f_t"])
    distance: Any = {1: "absolute", 2: "squared"}[case.hyper["p2"]]
    loss = factor_loss(student, teacher, form="attention", distance=distance)
    torch.autograd.backward(loss)
    assert same(loss, case.out["loss"])
    assert gradient_is(student, case.grad["f_s"])
    assert teacher.grad is None
    if "loss_paper_form" in case.out:  # recorded with the absolute difference in every case
        assert same(factor_loss(student, teacher, form="factor"), case.out["loss_paper_form"])


@pytest.mark.parametrize("name", cases("ab"))
def test_ab(name: str) -> None:
    case = ORACLE.load("ab", name)
    student, teacher = maps(case, "f_s"), maps(case, "f_t")
    config = ABConfig(margin=case.hyper["margin"], stages=every_stage(len(student)))
    both = pair(network(student, preacts=True), network(teacher, preacts=True))
    method = AB(config, both).double().train()
    if case.param:
        load(method, case, "")
        wanted = ["Sequential()" if isinstance(one, nn.Identity) else "ConvReg(" for one in method.connectors]
        assert [words[:12].split("\n")[0] for words in case.hyper["connectors"]] == wanted
    init = method.phases()[0]
    (term,) = init.terms(
        unlabelled(len(student[0])), ModelOutput(preacts=tuple(student)), ModelOutput(preacts=tuple(teacher))
    ).values()
    torch.autograd.backward(term)
    assert (config.ab_weight, init.name) == (1.0, "init")
    assert same(term, case.out["loss"])
    assert gradients_are(case, "f_s", student)
    assert all(one.grad is None for one in teacher)
    parameters = dict(method.named_parameters())
    assert all(gradient_is(parameters[key], want) for key, want in case.grad.items() if key.startswith("connectors"))


@pytest.mark.parametrize("name", cases("ab", without="param/connectors.0.conv.weight"))
def test_stages_of_ab(name: str) -> None:
    case = ORACLE.load("ab", name)
    stages = list(zip(maps(case, "f_s"), maps(case, "f_t"), strict=True))
    for behind, (ours, theirs), want in zip(reversed(range(len(stages))), stages, case.out["group"], strict=True):
        assert same(boundary_loss(ours, theirs, case.hyper["margin"]) / 2**behind, want)


@pytest.mark.parametrize("name", cases("fsp"))
def test_fsp(name: str) -> None:
    case = ORACLE.load("fsp", name)
    student, teacher = maps(case, "f_s"), maps(case, "f_t")
    both = pair(network(student), network(teacher))
    FSP.check(FSPConfig(), both)
    init = FSP(FSPConfig(fsp_weight=1.0), both).phases()[0]  # the cases hold the stem, as the method wants it
    (term,) = init.terms(
        unlabelled(len(student[0])), ModelOutput(stages=tuple(student)), ModelOutput(stages=tuple(teacher))
    ).values()
    torch.autograd.backward(term)
    assert same(term, case.out["loss"])
    assert gradients_are(case, "f_s", student)
    assert all(one.grad is None for one in teacher)
    for number, want in enumerate(case.out["group"]):
        flows = (flow(one[number], one[number + 1]) for one in (student, teacher))
        assert same(flow_loss(*flows), want)


@pytest.mark.parametrize("name", cases("kdsvd"))
def test_kdsvd(name: str) -> None:
    # Where the official vectors point the other way than ours, all of them do: then the loss is the same.
    case = ORACLE.load("kdsvd", name)
    student, teacher = maps(case, "f_s"), maps(case, "f_t")
    both = pair(network(student), network(teacher))
    config = KDSVDConfig(svd_weight=1.0, directions=case.hyper["k"], stages=every_stage(len(student)))
    KDSVD.check(config, both)
    signs = torch.cat([case.out[f"sign_t{number}"].flatten() for number in range(len(teacher))])
    assert signs.unique().numel() == 1
    logits = torch.zeros(len(student[0]), 3, dtype=torch.float64)
    terms = KDSVD(config, both).terms(
        unlabelled(len(logits)),
        ModelOutput(logits=logits, stages=tuple(student)),
        ModelOutput(logits=logits, stages=tuple(teacher)),
    )
    torch.autograd.backward(terms["svd"])
    assert same(terms["svd"], case.out["loss"], rtol=1e-7)
    assert gradients_are(case, "f_s", student)
    assert all(one.grad is None for one in teacher)


@pytest.mark.parametrize("name", cases("kdsvd"))
def test_stages_of_kdsvd(name: str) -> None:
    case = ORACLE.load("kdsvd", name)
    stages = list(zip(maps(case, "f_s"), maps(case, "f_t"), strict=True))
    both = [stage_directions(ours, theirs, case.hyper["k"]) for ours, theirs in stages]
    for number, want in enumerate(case.out["group"]):
        (ours, theirs), (ours_later, theirs_later) = both[number], both[number + 1]
        assert same(change_loss(ours, ours_later, theirs, theirs_later), want, rtol=1e-7)
    for _, theirs in stages:
        assert (leading_directions(theirs, case.hyper["k"])[0].sum(1) >= 0).all()


@pytest.mark.parametrize("name", cases("reviewkd", without="in/pooled_s"))
def test_pyramid_of_reviewkd(name: str) -> None:
    case = ORACLE.load("reviewkd", name)
    student, teacher = maps(case, "f_s"), maps(case, "f_t")
    loss = torch.stack([pyramid_loss(*both) for both in zip(student, teacher, strict=True)]).sum()
    torch.autograd.backward(loss)
    assert same(loss, case.out["loss"])
    assert gradients_are(case, "f_s", student)
    assert all(one.grad is None for one in teacher)


@pytest.mark.parametrize("name", cases("reviewkd", given="in/pooled_s"))
def test_reviewkd(name: str) -> None:
    case = ORACLE.load("reviewkd", name)
    student, teacher = maps(case, "feat_s"), maps(case, "preact_t")
    logits, pooled = leaf(case.inp["logits_s"]), leaf(case.inp["pooled_s"])
    spec = network(student, classes=logits.shape[1], width=pooled.shape[1], preacts=True)
    other = network(teacher, classes=logits.shape[1], width=case.inp["pooled_t"].shape[1], preacts=True)
    config = ReviewKDConfig(
        review_weight=case.hyper["weight"],
        warmup_epochs=case.hyper["warmup_epochs"],
        teacher_maps="preacts",
        stages=every_stage(len(student)),
    )
    ReviewKD.check(config, pair(spec, other))
    method = ReviewKD(config, pair(spec, other)).double().train()
    load(method.fusions, case, "abfs.")
    terms = method.terms(
        batch(case.inp["target"], epoch=case.hyper["epoch"] - 1),  # the official code counts from 1
        ModelOutput(logits=logits, stages=tuple(student), embedding=pooled),
        ModelOutput(logits=logits, preacts=tuple(teacher), embedding=case.inp["pooled_t"]),
    )
    torch.autograd.backward(terms["review"])
    assert same(terms["review"], case.out["loss"])
    assert same(terms["ce"], case.out["loss_ce"])
    assert gradients_are(case, "feat_s", student)
    assert gradient_is(pooled, case.grad["pooled_s"])
    assert all(one.grad is None for one in teacher)
    parameters = {f"abfs.{key}": value for key, value in method.fusions.named_parameters()}
    wanted = {key: want for key, want in case.grad.items() if key.startswith("abfs.")}
    assert wanted
    assert all(gradient_is(parameters[key], want) for key, want in wanted.items())


def test_no_case_of_these_methods_is_passed_over() -> None:
    present = METHODS & set(ORACLE.methods())
    if not present:
        pytest.skip(f"no losses at {ORACLE.folder}")
    tested = {method: set(cases(method)) for method in present - {"ft", "reviewkd"}}
    assert all(tested.values())
    for method, groups in {
        "ft": [{"without": "in/f_s"}, {"given": "out/factor_s"}, {"given": "in/f_s", "without": "out/factor_s"}],
        "reviewkd": [{"without": "in/pooled_s"}, {"given": "in/pooled_s"}],
    }.items():
        if method in present:
            assert set().union(*(cases(method, **group) for group in groups)) == set(ORACLE.cases(method))
