"""A student with parts that stay with it, and copies that share their numbers."""

import torch
from torch import nn

from compressor.distiller import ExtendedStudent, shared_copy


def body() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_a_shared_copy_has_modules_of_its_own_and_the_tensors_of_the_original() -> None:
    original = body()
    copied = shared_copy(original)
    assert type(copied) is nn.Sequential
    assert copied[0] is not original[0]
    own, theirs = original.state_dict(keep_vars=True), copied.state_dict(keep_vars=True)
    assert own.keys() == theirs.keys()
    assert all(own[name] is theirs[name] for name in own)


def test_a_shared_copy_can_be_cut_and_frozen_in_mode_without_the_original_noticing() -> None:
    original = body()
    copied = shared_copy(original).eval()
    copied[0] = nn.Identity()
    assert original.training
    assert isinstance(original[0], nn.Linear)


def test_what_trains_the_original_trains_the_copy() -> None:
    original = body()
    copied = shared_copy(original).eval()
    before = copied(torch.ones(4, 2))
    original(torch.randn(4, 2, generator=torch.Generator().manual_seed(1))).sum().backward()
    torch.optim.SGD(original.parameters(), lr=0.1).step()
    assert not torch.equal(copied(torch.ones(4, 2)), before)
    assert torch.equal(copied(torch.ones(4, 2)), original.eval()(torch.ones(4, 2)))


def test_extras_are_counted_by_their_parameters() -> None:
    whole = ExtendedStudent(body(), {"a head": nn.Linear(3, 5), "a scale": nn.ReLU()}, model_args={"width": 3})
    assert whole.extras == {"a head": 20, "a scale": 0}
    assert (whole.architecture, whole.model_args) == (None, {"width": 3})
