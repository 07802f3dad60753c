"""Tails of the zoo's networks against the auxiliary branches of HSAKD's code, on its own closed-form weights.

Needs ``losses/architectures.*`` of the folder that `oracle_io` names.
"""

import pytest
import torch
from oracle_io import close, hashed_fill
from test_architectures import DESCRIPTION, NETWORKS, TENSORS, WITH_BRANCHES, build, images
from torch import Tensor, nn

from compressor_zoo.summary import count_parameters

CASES = [pytest.param(name, marks=pytest.mark.slow) if "ResNet50" in name else name for name in WITH_BRANCHES]
ROTATIONS = 4


class OfficialOrder(nn.Module):
    """A trunk and its branches, registered in the order of the official state dict."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.trunk = build(name)
        # HSAKD's code does not tap VGG's block 3, and VGG's first tap is what the zoo numbers as the stem.
        self.taps = (0, 1, 2, 4) if "vgg" in name else range(1, len(NETWORKS[name]["ss_logits_shapes"]) + 1)
        tails = [self.trunk.make_tail(stage) for stage in self.taps]
        if "ShuffleV2" in name:  # the layers behind the last stage stand within each branch there
            self.branches = nn.ModuleList(tails)
        else:
            self.branches = nn.ModuleList(tail.stages for tail in tails)
            self.rests = nn.ModuleList(tail.rest for tail in tails)
        self.tails = tuple(tails)  # not a module list: their parts are registered already
        joint = ROTATIONS * DESCRIPTION["num_classes"]
        self.heads = nn.ModuleList(nn.Linear(tail.width, joint) for tail in tails)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        maps = self.trunk.forward_taps(pixels)[1]
        tapped = [maps[stage] for stage in self.taps]
        return [head(tail(one)) for one, tail, head in zip(tapped, self.tails, self.heads, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_branches_equal_the_official_ones_in_size_keys_and_evaluation(name: str) -> None:
    ours = OfficialOrder(name)
    shapes = [shape for _, shape in NETWORKS[name]["state_dict"]]
    assert [list(value.shape) for value in ours.state_dict().values()] == shapes
    assert count_parameters(ours) == NETWORKS[name]["params"]
    hashed_fill(ours, DESCRIPTION["fill_rule"]["salt"])
    with torch.no_grad():
        answers = ours.eval()(images())
    for number, answer in enumerate(answers):
        assert close(answer, TENSORS[f"{name}/ss_logits{number}_eval"], rtol=1e-9)
