"""Attention, similarity and relation losses against numbers of the official implementations, in float64.

Everything about a case (its settings, shapes and name) comes from the folder: others of the same layout must pass too.
Each method is run through its own `terms`, with the weight 1.
"""

from typing import Any

import pytest
import torch
from oracle_io import DEFAULT_FOLDER, Case, Oracle, close, oracle_folder
from torch import Tensor, nn

from compressor.distiller import Batch, Distiller, ModelOutput, NetworkSpec, Pair, StageSpec
from compressor_plugins.at import AT, ATConfig, attention_loss
from compressor_plugins.cc import CC, CCConfig, neighbours_loss
from compressor_plugins.nst import NST, NSTConfig, selectivity_loss
from compressor_plugins.pkt import PKT, PKTConfig, neighbourhood_loss
from compressor_plugins.rkd import RKD, RKDConfig
from compressor_plugins.sp import SP, SPConfig, similarity_loss
from compressor_plugins.vid import VID, VIDConfig

ORACLE = Oracle(oracle_folder("losses"))
METHODS = ("at", "sp", "pkt", "rkd", "cc", "nst", "vid")


def cases(method: str) -> list[str]:
    """Name the cases of a method; none where the folder lacks it."""
    return ORACLE.cases(method) if method in ORACLE.methods() else []


def maps(case: Case, side: str) -> list[Tensor]:
    """Return the feature maps ``f_s0, f_s1, ...`` (side ``s``) or ``f_t0, ...`` of a case, as leaves."""
    names = sorted((name for name in case.inp if name.startswith(f"f_{side}")), key=lambda name: int(name[3:] or 0))
    return [case.inp[name].clone().requires_grad_() for name in names]


def network(stages: list[Tensor], width: int = 0) -> NetworkSpec:
    return NetworkSpec(
        name="given",
        stages=tuple(
            StageSpec(name=f"stage{number}", channels=one.shape[1], height=one.shape[2], width=one.shape[3])
            for number, one in enumerate(stages)
        ),
        preacts=False,
        embedding_width=width,
        num_classes=2,
    )


def pair(student: NetworkSpec, teacher: NetworkSpec) -> Pair:
    return Pair(student=student, teacher=teacher, num_classes=2, train_size=10, class_counts=(5, 5))


def pair_of_maps(student: list[Tensor], teacher: list[Tensor]) -> Pair:
    return pair(network(student), network(teacher))


def pair_of_vectors(student: Tensor, teacher: Tensor) -> Pair:
    return pair(network([], student.shape[1]), network([], teacher.shape[1]))


def one_to_one(maps: list[Tensor]) -> str:
    """Write the setting ``stages`` for maps of which each belongs to the one of the same number."""
    return ",".join(f"{number}:{number}" for number in range(len(maps)))


def run(method: Distiller[Any], **served: Any) -> dict[str, Tensor]:
    """Return what the method says of ``stages`` or ``embedding``, each given as (student's, teacher's)."""
    (what, (student, teacher)) = next(iter(served.items()))
    count = len(student[0]) if what == "stages" else len(student)
    logits = torch.zeros(count, 2, dtype=torch.float64)
    batch = Batch(labels=torch.zeros(count, dtype=torch.int64), views=1, epoch=0, step=0, progress=0.0)
    answers = [ModelOutput(logits=logits, **{what: one}) for one in (student, teacher)]
    return method.double().train().terms(batch, answers[0], answers[1])


def same(got: Tensor, want: float | Tensor) -> bool:
    return close(got.detach(), want, rtol=1e-9, atol=1e-15)


def gradients_are(maps: list[Tensor], case: Case) -> bool:
    return all(one.grad is not None and close(one.grad, case.grad[f"f_s{number}"]) for number, one in enumerate(maps))


def untouched(tensors: list[Tensor]) -> bool:
    return all(one.grad is None for one in tensors)


def check_maps(case: Case, method: Distiller[Any], student: list[Tensor], teacher: list[Tensor]) -> None:
    """Hold the one term of a method that compares maps to a case: value, gradient, and none to the teacher."""
    (term,) = (value for name, value in run(method, stages=(tuple(student), tuple(teacher))).items() if name != "ce")
    torch.autograd.backward(term)
    assert same(term, case.out["loss"])
    assert gradients_are(student, case)
    assert untouched(teacher)


def agrees_on_signs(case: Case) -> bool:
    """Whether a case can tell nothing of the sign: the official code raises ``f``, the paper and ours ``|f|``."""
    return case.hyper["p"] % 2 == 0 or all(bool((value >= 0).all()) for value in case.inp.values())


@pytest.mark.parametrize("name", [name for name in cases("at") if agrees_on_signs(ORACLE.load("at", name))])
def test_at(name: str) -> None:
    case = ORACLE.load("at", name)
    student, teacher = maps(case, "s"), maps(case, "t")
    config = ATConfig(at_weight=1.0, power=case.hyper["p"], stages=one_to_one(student))
    check_maps(case, AT(config, pair_of_maps(student, teacher)), student, teacher)
    each = [attention_loss(*both, case.hyper["p"]) for both in zip(student, teacher, strict=True)]
    assert same(torch.stack(each), case.out["group"])


@pytest.mark.parametrize("name", cases("sp"))
def test_sp(name: str) -> None:
    case = ORACLE.load("sp", name)
    student, teacher = maps(case, "s"), maps(case, "t")
    check_maps(
        case,
        SP(SPConfig(sp_weight=1.0, stages=one_to_one(student)), pair_of_maps(student, teacher)),
        student,
        teacher,
    )
    each = [similarity_loss(*both) for both in zip(student, teacher, strict=True)]
    assert same(torch.stack(each), case.out["group"])


@pytest.mark.parametrize("name", cases("nst"))
def test_nst(name: str) -> None:
    case = ORACLE.load("nst", name)
    student, teacher = maps(case, "s"), maps(case, "t")
    check_maps(
        case,
        NST(NSTConfig(nst_weight=1.0, stages=one_to_one(student)), pair_of_maps(student, teacher)),
        student,
        teacher,
    )
    each = [selectivity_loss(*both) for both in zip(student, teacher, strict=True)]
    assert same(torch.stack(each), case.out["group"])


@pytest.mark.parametrize("name", cases("pkt"))
def test_pkt(name: str) -> None:
    # An embedding of zeros has no gradient in the official code (NaN); ours is finite: see the method's own tests.
    case = ORACLE.load("pkt", name)
    student, teacher = (case.inp[key].clone().requires_grad_() for key in ("f_s", "f_t"))
    term = run(PKT(PKTConfig(pkt_weight=1.0), pair_of_vectors(student, teacher)), embedding=(student, teacher))["pkt"]
    if case.hyper["eps"] != 1e-7:  # the method has no setting for it
        term = neighbourhood_loss(student, teacher, case.hyper["eps"])
    torch.autograd.backward(term)
    assert same(term, case.out["loss"])
    assert student.grad is not None
    assert close(student.grad, case.grad["f_s"])
    assert teacher.grad is None


@pytest.mark.parametrize("name", cases("rkd"))
def test_rkd(name: str) -> None:
    case = ORACLE.load("rkd", name)
    # The official code flattens whatever it is given; our embeddings are vectors, so the reshaping is done here.
    student, teacher = (case.inp[key].flatten(1).clone().requires_grad_() for key in ("f_s", "f_t"))
    config = RKDConfig(distance_weight=case.hyper["w_d"], angle_weight=case.hyper["w_a"])
    terms = run(RKD(config, pair_of_vectors(student, teacher)), embedding=(student, teacher))
    loss = terms["distance"] + terms["angle"]
    torch.autograd.backward(loss)
    assert same(loss, case.out["loss"])
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
    # Two equal rows: the official gradient there is 1e12 times the incoming one, a direction that does not exist.
    # Ours leaves it out on purpose, so those rows are not compared, and the others among themselves.
    alone = ~has_twin(student.detach())
    assert close(student.grad[alone], case.grad["f_s"].flatten(1)[alone])
    assert teacher.grad is None


def has_twin(rows: Tensor) -> Tensor:
    """Mark the rows (B, D) that equal another one."""
    equal = (rows[:, None] == rows[None]).all(2)
    return equal.sum(1) > 1


def of_kernel(name: str) -> bool:
    return "gamma" in ORACLE.load("cc", name).hyper


@pytest.mark.parametrize("name", [name for name in cases("cc") if not of_kernel(name)])
def test_cc_of_the_benchmark(name: str) -> None:
    case = ORACLE.load("cc", name)
    student, teacher = (case.inp[key].clone().requires_grad_() for key in ("f_s", "f_t"))
    width = len(case.param["s.linear.weight"]) if case.param else student.shape[1]
    config = CCConfig(cc_weight=1.0, form="neighbours", feature_dim=width)
    method = CC(config, pair_of_vectors(student, teacher)).double()
    if not case.param:
        loss = neighbours_loss(student, teacher)  # the cases give what comes out of the linear layers
    else:
        for key, linear in (("s", method.embed_student), ("t", method.embed_teacher)):
            linear.load_state_dict({part: case.param[f"{key}.linear.{part}"] for part in ("weight", "bias")})
        loss = run(method, embedding=(student, teacher))["cc"]
    torch.autograd.backward(loss)
    assert same(loss, case.out["loss"])
    assert student.grad is not None
    assert close(student.grad, case.grad["f_s"])
    if "f_t" in case.grad:  # the teacher's layer learns: what enters its output gets a gradient too
        assert teacher.grad is not None
        assert close(teacher.grad, case.grad["f_t"])
    if case.param:
        assert teacher.grad is None  # but the teacher itself does not
        assert parameter_gradient_is(method.embed_student.weight, case.grad["s.linear.weight"])
        assert parameter_gradient_is(method.embed_teacher.weight, case.grad["t.linear.weight"])


@pytest.mark.parametrize("name", [name for name in cases("cc") if of_kernel(name)])
def test_cc_of_the_paper(name: str) -> None:
    case = ORACLE.load("cc", name)
    student, teacher = (case.inp[key].clone().requires_grad_() for key in ("f_s", "f_t"))
    config = CCConfig(
        cc_weight=1.0, form="kernel", kernel_gamma=case.hyper["gamma"], kernel_order=case.hyper["P_order"]
    )
    loss = run(CC(config, pair_of_vectors(student, teacher)), embedding=(student, teacher))["cc"]
    torch.autograd.backward(loss)
    assert same(loss, case.out["loss"])
    assert student.grad is not None
    assert close(student.grad, case.grad["f_s"])
    assert teacher.grad is None


@pytest.mark.parametrize("name", cases("vid"))
def test_vid(name: str) -> None:
    case = ORACLE.load("vid", name)
    student, teacher = maps(case, "s"), maps(case, "t")
    config = VIDConfig(
        vid_weight=1.0,
        initial_variance=case.hyper["init_pred_var"],
        least_variance=case.hyper["eps"],
        stages="0:0",
    )
    method = VID(config, pair_of_maps(student, teacher)).double()
    guess = method.guesses.get_submodule("0")
    assert close(guess.get_parameter("log_scale")[0].item(), case.hyper["log_scale_at_init"], rtol=1e-6)
    guess.load_state_dict({key.replace("regressor.", "mean."): value for key, value in case.param.items()})
    term = run(method, stages=(tuple(student), tuple(teacher)))["vid"]
    torch.autograd.backward(term)
    assert same(term, case.out["loss"])
    assert student[0].grad is not None
    assert close(student[0].grad, case.grad["f_s"])
    for key, parameter in guess.named_parameters():
        assert parameter_gradient_is(parameter, case.grad[key.replace("mean.", "regressor.")])
    assert untouched(teacher)


def parameter_gradient_is(parameter: Tensor | nn.Parameter, want: Tensor) -> bool:
    return parameter.grad is not None and close(parameter.grad, want)


def test_no_case_of_these_methods_is_passed_over() -> None:
    present = [method for method in METHODS if method in ORACLE.methods()]
    if not present:
        pytest.skip(f"no losses at {ORACLE.folder}")
    assert all(cases(method) for method in present)
    left_out = [name for name in cases("at") if not agrees_on_signs(ORACLE.load("at", name))]
    assert ORACLE.folder != DEFAULT_FOLDER / "losses" or left_out == []
