"""Speed alone: other layouts in memory and a kept heap give the same numbers, and `plain` leaves them out."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import tiny_run
from torch import Tensor, nn

from compressor.engine.layout import arrange, plainly_arranged
from compressor.memory import keep_freed_memory
from compressor.models.catalogue import resolve_name
from compressor.models.create import build
from compressor.storage import read_tensors


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(resolve_name(name), num_classes=10, image_size=32, pretrained=False).module.double()


def is_channels_last(net: nn.Module) -> bool:
    """Look at what convolutions return: the weights of 1x1 and depthwise ones lie alike in both layouts."""
    lying: list[bool] = []

    def look(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        if output[0, 0].numel() > 1:  # one pixel lies alike in both
            lying.append(output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous())

    handles = [module.register_forward_hook(look) for module in net.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        net(torch.rand(2, 3, 32, 32).double())
    for handle in handles:
        handle.remove()
    return bool(lying) and all(lying)


@pytest.mark.parametrize(
    "name", ["cifar_resnet8", "wrn_16_1", "shufflenetv1", "shufflenetv2", "cifar_mobilenetv2_half", "lcnet_035"]
)
def test_networks_are_laid_out_channels_last_throughout_and_answer_the_same(name: str) -> None:
    plain, arranged = network(name), arrange(network(name))
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)).double()
    answers = [net.train()(images) for net in (plain, arranged)]
    for answer in answers:
        answer.square().sum().backward()
    assert is_channels_last(arranged)
    assert torch.allclose(*answers, rtol=1e-10)
    for (key, ours), theirs in zip(arranged.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-7, atol=1e-10), key


def test_a_network_goes_back_to_the_usual_layout_with_the_same_values() -> None:
    before, net = network("cifar_resnet8").state_dict(), arrange(network("cifar_resnet8"))
    after = plainly_arranged(net).state_dict()
    assert all(value.is_contiguous() and torch.equal(value, before[key]) for key, value in after.items())


def test_a_network_without_convolutions_is_left_alone() -> None:
    net = nn.Linear(3, 2)
    assert arrange(net) is net


@pytest.mark.usefixtures("tiny")
def test_a_plain_run_ends_within_float_tolerance_of_a_fast_one() -> None:
    fast, plain = tiny_run("kd", out="fast"), tiny_run("kd", runtime__plain=True, out="plain")
    states = [read_tensors(Path(run.values["student"]["folder"]) / "model.safetensors") for run in (fast, plain)]
    for key, value in states[0].items():
        assert torch.allclose(value.double(), states[1][key].double(), rtol=1e-2, atol=1e-3), key


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the process's memory map")
@pytest.mark.parametrize(("asked", "kept"), [("keep", True), ("leave", False)])
def test_large_blocks_lie_in_the_heap_that_is_kept_only_when_asked(asked: str, kept: bool) -> None:
    # A process of its own: the setting cannot be taken back.
    script = (
        "import sys, torch\n"
        "from compressor.memory import keep_freed_memory\n"
        "if sys.argv[1] == 'keep': assert keep_freed_memory()\n"
        "place = (block := torch.ones(16_000_000)).data_ptr()\n"
        "heap = next(line for line in open('/proc/self/maps') if '[heap]' in line).split()[0]\n"
        "first, last = (int(end, 16) for end in heap.split('-'))\n"
        "print(first <= place < last)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script, asked], check=True, capture_output=True, text=True).stdout
    assert answer.strip() == str(kept)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the process's memory map")
def test_memory_that_is_kept_can_be_given_back() -> None:
    script = (
        "import torch\n"
        "from compressor.memory import give_back_freed_memory, keep_freed_memory\n"
        "def resident(): return int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "assert keep_freed_memory()\n"
        "below, block, above = torch.ones(9), torch.ones(50_000_000), torch.ones(1_000_000)\n"
        "del block\n"
        "kept = resident()\n"
        "give_back_freed_memory()\n"
        "print(kept - resident())\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert int(answer) > 150_000_000


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_freed_memory() is False
