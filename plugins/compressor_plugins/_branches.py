"""What HSAKD and HSSAKD share: branches off the stages of a network, which tell class and turn of an image at once."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.distiller import Link, NetworkSpec, Pair, Rotations
from compressor.functional import soft_target_kl, wide
from compressor.matching import StageMatch, link_stages

VIEWS = Rotations(4, shared_crop=True)
"""Four quarter turns of one and the same crop."""


class Branches(nn.Module):
    """Auxiliary classifiers of one network: behind each of some stages a tail of its own and a linear layer.

    Args:
        network: with the maker of its tails. stages: positions in its list of maps. classes: K.

    Raises:
        UnsupportedPair: a tail of the network cannot be made.

    Source: Yang et al. 2021, arXiv:2107.13715, section 3.1.
    """

    def __init__(self, network: NetworkSpec, stages: Iterable[int], classes: int) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self.tails = nn.ModuleList(network.make_tail(stage) for stage in self.stages)
        self.heads = nn.ModuleList(nn.Linear(_width(tail), VIEWS.count * classes) for tail in self.tails)
        self._zero_biases()

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for tail in self.tails:
            _redraw(tail)
        for head in self.heads:
            _redraw(head)
        self._zero_biases()

    def forward(self, maps: Sequence[Tensor], stages: Sequence[int] | None = None) -> list[Tensor]:
        """Return the joint logits (B, 4 K) of the branches at ``stages``, all by default, with gradient.

        Args:
            maps: of all stages of the network, (B, C, H, W) each.
        """
        wanted = self.stages if stages is None else stages
        return [self._branch(self.stages.index(stage), maps[stage]) for stage in wanted]

    def _branch(self, place: int, one: Tensor) -> Tensor:
        logits: Tensor = self.heads[place](self.tails[place](one))
        return logits

    def _zero_biases(self) -> None:
        for head in self.heads:
            nn.init.zeros_(head.get_parameter("bias"))


def joint_labels(labels: Tensor, views: int) -> Tensor:
    """Number class and turn together: label y of an image at turn v is ``views * y + v``.

    Args:
        labels: (N,) int64.

    Returns:
        (N * V,) int64 in [0, V * K), view fastest.

    Source: Yang et al. 2021, arXiv:2107.13715, section 3.1.
    """
    turns = torch.arange(views, device=labels.device)
    return (labels[:, None] * views + turns).flatten()


def joint_cross_entropy(branches: Sequence[Tensor], labels: Tensor, views: int) -> Tensor:
    """Add up the branches' cross entropies against the joint labels, each a mean over all views.

    Args:
        branches: L of (N * V, V * K) joint logits. labels: (N,).

    Returns:
        0-d tensor in nats, >= 0.

    Source: Yang et al. 2021, arXiv:2107.13715, section 3.2.
    """
    joint = joint_labels(labels, views)
    return torch.stack([F.cross_entropy(wide(logits), joint) for logits in branches]).sum()


def branch_kl(student: Sequence[Tensor], teacher: Sequence[Tensor], temperature: float) -> Tensor:
    """Add up how far the student's joint predictions lie from the teacher's, branch by branch.

    Args:
        student, teacher: L of (B, V * K) joint logits each; the teacher's are detached. temperature: T > 0.

    Returns:
        0-d tensor, nats times T**2, >= 0; 0 when all agree. See `soft_target_kl`.

    Raises:
        ValueError: they differ in number.

    Source: Yang et al. 2021, arXiv:2107.13715, section 3.3.
    """
    pairs = zip(student, teacher, strict=True)
    return torch.stack([soft_target_kl(ours, theirs, temperature) for ours, theirs in pairs]).sum()


def plain_rows(rows: Tensor, views: int) -> Tensor:
    """Return the rows (N, ...) of the images that are not turned, of (N * V, ...)."""
    return rows.view(-1, views, *rows.shape[1:])[:, 0]


def check_branches(network: NetworkSpec, stages: Sequence[int]) -> None:
    """Make the first and the last tail on trial, and leave the random generator as it was.

    Raises:
        UnsupportedPair: a tail of the network cannot be made.
    """
    with torch.random.fork_rng(devices=[]):
        for stage in sorted({min(stages), max(stages)}):
            network.make_tail(stage)


def link_branches(pair: Pair, matches: Iterable[StageMatch], student: Branches, teacher: Branches) -> list[Link]:
    """Describe the matched branches for `Distiller.plan`."""
    links = []
    for match in matches:
        both = nn.ModuleList(
            branches.get_submodule(f"{part}.{branches.stages.index(stage)}")
            for branches, stage in ((student, match.student), (teacher, match.teacher))
            for part in ("tails", "heads")
        )
        links.append(link_stages(pair, match, f"a branch each, to {VIEWS.count} x classes", both))
    return links


def _width(tail: nn.Module) -> int:
    width = tail.width
    assert isinstance(width, int), "a tail has the attribute width"
    return width


def _redraw(module: nn.Module) -> None:
    draw = getattr(module, "reset_parameters", None)
    if draw is not None:
        draw()
        return
    for child in module.children():
        _redraw(child)
