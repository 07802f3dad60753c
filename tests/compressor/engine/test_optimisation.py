"""Optimiser and learning rate against torch's own and against hand-worked values."""

import math

import pytest
import torch
from torch import nn

from compressor.config.settings import TrainingConfig
from compressor.distiller import Schedule
from compressor.engine.optimisation import LearningRate, is_recordable, make_optimizer, schedule_of
from compressor.errors import UsageError


def rates(training: TrainingConfig, own: Schedule | None = None) -> list[float]:
    schedule = schedule_of(training, own)
    optimizer = make_optimizer([nn.Parameter(torch.zeros(1))], training, schedule.lr)
    rate = LearningRate(optimizer, training, schedule)
    return [rate.set_for(epoch) for epoch in range(schedule.epochs)]


def test_paper_schedule_decays_at_epochs_150_180_and_210_of_240() -> None:
    got = rates(TrainingConfig(epochs=240, lr=0.05))
    by_hand = [0.05] * 150 + [0.005] * 30 + [0.0005] * 30 + [0.00005] * 30
    assert got == pytest.approx(by_hand)


@pytest.mark.parametrize(("epochs", "milestones"), [(10, (0.3, 0.8)), (7, (0.5,)), (40, (0.25, 0.5, 0.75))])
def test_multistep_equals_torch(epochs: int, milestones: tuple[float, ...]) -> None:
    training = TrainingConfig(epochs=epochs, lr=0.4, milestones=milestones, decay=0.5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, [round(share * epochs) for share in milestones], 0.5)
    expected = []
    for _ in range(epochs):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()
    assert rates(training) == pytest.approx(expected)


def test_cosine_follows_its_formula() -> None:
    training = TrainingConfig(epochs=10, lr=0.2, schedule="cosine", min_lr=0.01)
    by_hand = [0.01 + 0.5 * 0.19 * (1 + math.cos(math.pi * epoch / 10)) for epoch in range(10)]
    assert rates(training) == pytest.approx(by_hand)


def test_constant_stays() -> None:
    assert rates(TrainingConfig(epochs=9, lr=0.3, schedule="constant")) == [0.3] * 9


def test_warm_up_rises_linearly_and_skips_zero() -> None:
    got = rates(TrainingConfig(epochs=8, lr=0.4, schedule="constant", warmup_epochs=3))
    assert got == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.4, 0.4])


def test_phase_with_a_schedule_of_its_own_leaves_the_run_aside() -> None:
    own = Schedule(epochs=4, lr=0.1, milestones=(0.5,), decay=0.2)
    assert rates(TrainingConfig(epochs=100, lr=9.0, schedule="cosine"), own) == pytest.approx([0.1, 0.1, 0.02, 0.02])


def test_rate_of_an_epoch_does_not_depend_on_the_epochs_before() -> None:
    training = TrainingConfig(epochs=240, lr=0.05, warmup_epochs=5)
    optimizer = make_optimizer([nn.Parameter(torch.zeros(1))], training, 0.05)
    rate = LearningRate(optimizer, training, schedule_of(training, None))
    in_order = [rate.set_for(epoch) for epoch in range(240)]
    assert [rate.set_for(epoch) for epoch in reversed(range(240))] == in_order[::-1]


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_takes_the_steps_that_torch_takes(nesterov: bool) -> None:
    training = TrainingConfig(lr=0.1, momentum=0.8, weight_decay=0.01, nesterov=nesterov)
    mine, theirs = (nn.Parameter(torch.tensor([1.0, -2.0])) for _ in range(2))
    own = make_optimizer([mine], training, 0.1)
    reference = torch.optim.SGD([theirs], lr=0.1, momentum=0.8, weight_decay=0.01, nesterov=nesterov)
    for optimizer, parameter in ((own, mine), (reference, theirs)):
        for step in range(3):
            parameter.grad = torch.tensor([0.5, 1.0]) * (step + 1)
            optimizer.step()
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-7)


def test_unknown_optimizer_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no optimizer 'adamww'") as caught:
        make_optimizer([nn.Parameter(torch.zeros(1))], TrainingConfig(optimizer="adamww"), 0.1)
    assert "adamw" in str(caught.value.hint)


@pytest.mark.parametrize("device", ["cpu", "cuda"])  # the forms that are taken there; the numbers lie on the CPU
def test_rate_in_a_tensor_is_filled_anew_and_gives_the_steps_of_a_number(device: str) -> None:
    training = TrainingConfig(epochs=4, lr=0.1, momentum=0.8, weight_decay=0.01, milestones=(0.5,))
    results = []
    for place in (None, torch.device("cpu")):
        parameter = nn.Parameter(torch.tensor([1.0, -2.0]))
        optimizer = make_optimizer([parameter], training, 0.1, device=device)
        rate = LearningRate(optimizer, training, schedule_of(training, None), device=place)
        seen = []
        for epoch in range(4):
            assert rate.set_for(epoch) == rate.now == pytest.approx(0.1 if epoch < 2 else 0.01)
            seen.append(optimizer.param_groups[0]["lr"])
            parameter.grad = torch.tensor([0.5, 1.0])
            optimizer.step()
        assert place is None or all(lr is seen[0] for lr in seen)
        results.append(parameter.detach().clone())
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("name", "device", "recordable"),
    [
        ("sgd", "cuda", True),
        ("sgd", "cpu", True),
        ("adamw", "cuda", True),
        ("adamw", "cpu", False),
        ("lamb", "cuda", False),
    ],
)
def test_only_optimizers_that_ask_the_host_nothing_are_recordable(name: str, device: str, recordable: bool) -> None:
    optimizer = make_optimizer([nn.Parameter(torch.zeros(2))], TrainingConfig(optimizer=name), 0.1, device=device)
    assert is_recordable(optimizer) is recordable
