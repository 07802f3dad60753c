"""OFA's loss, exits, terms and gradients against numbers of the authors' code, in float64.

As `test_losses`: everything about a case comes from the folder. Ours get the authors' parameters in order, which is the
same; the maps of a student of tokens come as the authors keep them, (B, H * W, C), and are maps here.
"""

import math
from collections.abc import Mapping

import pytest
import torch
from oracle_io import Case, Oracle, close, oracle_folder
from torch import Tensor, nn

from compressor.distiller import Batch, ModelOutput, NetworkSpec, Pair, StageSpec
from compressor_plugins.ofa import OFA, OFAConfig, enhanced_cross_entropy

ORACLE = Oracle(oracle_folder("losses"))
CASES = ORACLE.cases("ofa") if "ofa" in ORACLE.methods() else []
WHOLE = [name for name in CASES if "stages" in ORACLE.load("ofa", name).hyper]


def leaf(value: Tensor) -> Tensor:
    return value.clone().requires_grad_()


def gradient_is(value: Tensor, want: Tensor) -> bool:
    assert value.grad is not None
    return close(value.grad, want)


def as_map(given: Tensor) -> Tensor:
    """Return the map (B, C, H, W) that the authors keep so, or as tokens (B, H * W, C) of a square."""
    if given.dim() == 4:
        return given
    side = math.isqrt(given.shape[1])
    return given.transpose(1, 2).unflatten(2, (side, side))


def maps(case: Case) -> dict[int, Tensor]:
    """Return the features of the numbered stages, as leaves in the authors' form."""
    names = [name for name in case.inp if name.startswith("f_s")]
    return {int(name.removeprefix("f_s")): leaf(case.inp[name]) for name in names}


def network(stages: list[Tensor], width: int, classes: int) -> NetworkSpec:
    specs = tuple(
        StageSpec(name=f"stage{number}", channels=one.shape[1], height=one.shape[2], width=one.shape[3])
        for number, one in enumerate(stages)
    )
    return NetworkSpec(name="given", stages=specs, preacts=False, embedding_width=width, num_classes=classes)


def build(case: Case, shown: list[Tensor]) -> OFA:
    """Make the method of a case on the maps of stages 1, 2, ..., before which comes a stem."""
    hyper, classes = case.hyper, case.inp["logits_s"].shape[1]
    config = OFAConfig(
        ce_weight=hyper["gt_weight"],
        final_weight=hyper["kd_weight"],
        exit_weight=hyper["ofa_weight"],
        target_power=hyper["eps"],
        temperature=hyper["T"],
        projector={"cnn": "convolutions", "tokens": "attention"}[hyper["kind"]],
        stages=",".join(str(number) for number in hyper["stages"]),
    )
    pair = Pair(
        student=network(shown, hyper["width_s"], classes),
        teacher=network([], hyper["width_t"], classes),
        num_classes=classes,
        train_size=classes,
        class_counts=(1,) * classes,
    )
    OFA.check(config, pair)
    method = OFA(config, pair).double().train()
    for number, one in zip(hyper["stages"], method.exits, strict=True):
        give(one, of_exit(case.param, number))
    return method


def of_exit(tensors: Mapping[str, Tensor], number: int) -> list[Tensor]:
    return [value for name, value in tensors.items() if name.startswith(f"projector.{number}.")]


def give(module: nn.Module, values: list[Tensor]) -> None:
    """Fill a module's parameters, all of them, in order."""
    with torch.no_grad():
        for parameter, value in zip(module.parameters(), values, strict=True):
            assert parameter.shape == value.shape
            parameter.copy_(value)


@pytest.mark.parametrize("name", [name for name in CASES if name not in WHOLE])
def test_loss_equals_the_official_one(name: str) -> None:
    case = ORACLE.load("ofa", name)
    student, teacher = leaf(case.inp["logits_s"]), leaf(case.inp["logits_t"])
    loss = enhanced_cross_entropy(student, teacher, case.inp["target"], case.hyper["eps"], case.hyper["T"])
    loss.backward()
    assert close(loss.detach(), case.out["loss"], rtol=1e-9)
    assert gradient_is(student, case.grad["logits_s"])
    assert teacher.grad is None


@pytest.mark.parametrize("name", WHOLE)
def test_method_equals_the_official_one(name: str) -> None:
    case = ORACLE.load("ofa", name)
    given, logits, teacher = maps(case), leaf(case.inp["logits_s"]), leaf(case.inp["logits_t"])
    stages = {number: as_map(one) for number, one in given.items()}
    unseen = torch.zeros_like(next(iter(stages.values())))  # the stem, and what the case leaves out
    shown = [stages.get(number, unseen) for number in range(max(stages) + 1)]
    method = build(case, shown)
    numbers = case.hyper["stages"]
    for number, one in zip(numbers, method.exits, strict=True):
        assert close(one(shown[number]).detach(), case.out[f"logits_exit{number}"], rtol=1e-9)
    seen = Batch(labels=case.inp["target"], views=1, epoch=0, step=0, progress=0.0)
    terms = method.terms(seen, ModelOutput(logits=logits, stages=tuple(shown)), ModelOutput(logits=teacher))
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    for key, official in {"ce": "loss_gt", "final": "loss_kd", "exits": "loss_ofa"}.items():
        assert close(terms[key].detach(), case.out[official], rtol=1e-9), key
    assert close(loss.detach(), case.out["loss"], rtol=1e-9)
    assert gradient_is(logits, case.grad["logits_s"])
    assert teacher.grad is None
    for number, one in zip(numbers, method.exits, strict=True):
        assert gradient_is(given[number], case.grad[f"f_s{number}"])
        wanted = of_exit(case.grad, number)
        assert all(gradient_is(*both) for both in zip(one.parameters(), wanted, strict=True))


def test_the_folder_has_cases_of_the_loss_and_of_both_kinds_of_students() -> None:
    if not CASES:
        pytest.skip(f"no ofa at {ORACLE.folder}")
    assert {ORACLE.load("ofa", name).hyper["kind"] for name in WHOLE} == {"cnn", "tokens"}
    assert len(CASES) > len(WHOLE)
