"""The teacher in inference form: the same answers, the same weights and hash, slices of a batch, and the way back."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import tiny_run
from torch import Tensor, nn

import compressor.engine.inference
from compressor.config.settings import RuntimeConfig
from compressor.distiller import ModelOutput
from compressor.engine.history import read_run
from compressor.engine.inference import ROWS, InferenceForm, inference_form
from compressor.engine.normalise import Normalisation
from compressor.engine.runtime import Runtime
from compressor.events import Event, Warned
from compressor.models.catalogue import resolve_name
from compressor.models.create import build
from compressor.models.taps import TappedModel, Wanted
from compressor.weights import state_sha256

SIZE = (3, 16, 16)
GREY = Normalisation((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
EVERYTHING = Wanted(stages=True, preacts=True, embedding=True)


def teacher(name: str = "cifar_resnet14") -> nn.Module:
    torch.manual_seed(0)
    net = build(resolve_name(name), num_classes=10, image_size=16, pretrained=False).module
    draw = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                assert value is not None
                value.copy_(torch.rand(value.shape, generator=draw) + 0.5)
    return net.eval().requires_grad_(False)


def form_of(net: nn.Module, *, plain: bool = False, told: list[Event] | None = None) -> TappedModel:
    runtime = Runtime(RuntimeConfig(device="cpu", plain=plain))
    return inference_form(net, GREY, SIZE, runtime, ([] if told is None else told).append)


def images(count: int = 5) -> Tensor:
    return torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(2))


def parts(output: ModelOutput) -> list[Tensor]:
    return [output.logits, *output.stages, *output.preacts, output.embedding]


def norms(net: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())


def test_the_form_answers_as_the_network_which_stays_what_it_was() -> None:
    net, told = teacher(), list[Event]()
    before, plain = state_sha256(net.state_dict()), TappedModel(teacher(), owner="teacher")
    form = form_of(net, told=told)
    assert isinstance(form, InferenceForm)
    assert (norms(net), norms(form.form)) == (15, 0)
    for ours, theirs in zip(parts(form(images(), EVERYTHING)), parts(plain(images(), EVERYTHING)), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    assert form.net is net
    assert state_sha256(net.state_dict()) == before
    assert list(form.state_dict()) == list(plain.state_dict())
    assert not form.training
    assert told == []


def test_a_plain_run_asks_the_network_itself() -> None:
    net = teacher()
    form = form_of(net, plain=True)
    assert type(form) is TappedModel
    assert form.form is form.net is net
    assert norms(net) == 15


def test_two_forms_of_a_network_give_the_same_bits() -> None:
    first, second = (form_of(teacher())(images(), EVERYTHING) for _ in range(2))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(parts(first), parts(second), strict=True))


class Peeking(nn.Module):
    """Reads a norm's numbers beside the pass."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 10)

    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.fc(self.bn(self.conv(pictures)).mean((2, 3)) + self.bn.weight)
        return answer


class Counting(Peeking):
    """Does something else where its norm is another."""

    def forward(self, pictures: Tensor) -> Tensor:
        answer: Tensor = self.fc(self.bn(self.conv(pictures)).mean((2, 3)) + 2 * norms(self))
        return answer


class Uncopied(Peeking):
    """Cannot be copied."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("there is one of me")


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Peeking(), "raises AttributeError: 'Identity' object has no attribute 'weight'"),
        (Counting(), "gives other logits"),
        (Uncopied(), "raises TypeError: there is one of me"),
    ],
)
def test_a_network_that_does_not_bear_folding_is_asked_as_it_is(net: nn.Module, reason: str) -> None:
    told: list[Event] = []
    form = form_of(net.eval(), told=told)
    assert isinstance(form, InferenceForm)
    assert form.form is net
    assert torch.equal(form(images(), Wanted()).logits, net(images()))
    message = f"BatchNorm is not folded into the teacher's convolutions, as it then {reason}; only speed is lost"
    assert told == [Warned(lane="teacher", message=message)]


def test_a_network_without_norms_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compressor.engine.inference, "_tried", None)
    net = nn.Sequential(nn.Flatten(), nn.Linear(768, 10)).eval()
    form = form_of(net)
    assert torch.equal(form(images(), Wanted()).logits, net(images()))


@pytest.mark.parametrize("name", ["cifar_resnet14", "shufflenetv2"])
@pytest.mark.parametrize(("kept", "calls"), [(False, [50, 50, 50]), (True, [150])])
def test_large_batches_go_in_even_slices_only_where_freed_memory_is_given_back(
    name: str, kept: bool, calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compressor.engine.inference, "keeps_freed_memory", lambda: kept)
    form = form_of(teacher(name))
    assert isinstance(form, InferenceForm)
    seen: list[int] = []
    form.form.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    many = images(150)
    assert max(calls) <= ROWS or kept
    logits = form(many, Wanted()).logits
    assert seen == calls
    whole = TappedModel(form.form, owner="teacher")
    assert torch.equal(logits, whole(many, Wanted()).logits)
    for ours, theirs in zip(parts(form(many, EVERYTHING)), parts(whole(many, EVERYTHING)), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.usefixtures("tiny")
def test_a_run_with_the_form_follows_the_plain_one_and_names_the_same_teacher() -> None:
    fast, plain = tiny_run("kd", out="fast"), tiny_run("kd", runtime__plain=True, out="plain")
    facts = [{**run.values["teacher"], "latency_ms": None} for run in (fast, plain)]
    assert facts[0] == facts[1]
    losses = [[float(row["train_loss"]) for row in read_run(Path(run)).history] for run in ("fast", "plain")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
