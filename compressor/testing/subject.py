"""A method on one made-up pair: how it is built, and how its phases are run as the core runs them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from compressor.distiller import Distiller, Needs, Phase, Terms
from compressor.errors import CompressorError
from compressor.testing.faults import Tell
from compressor.testing.scenes import Case, Scene, make_scene

AnyDistiller = Distiller[Any]


class Broken(Exception):
    """A fault was told after which this pair cannot be looked at any further."""


class Subject:
    """A method, its settings and a made-up pair that it takes.

    Attributes:
        needs: of the method with these settings. tell: takes what is found.
    """

    def __init__(self, method: type[AnyDistiller], config: Any, case: Case, needs: Needs, tell: Tell) -> None:
        self.method = method
        self.config = config
        self.case = case
        self.needs = needs
        self.tell = tell

    def build(self, seed: int = 0, *, like: AnyDistiller | None = None) -> AnyDistiller:
        """Return the method, built from random draws of a seed, or with another one's state."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with guarded("__init__", self.tell):
                built = self.method(self.config, self.case.pair(self.needs))
        if like is not None:
            built.load_state_dict({key: value.clone() for key, value in like.state_dict().items()})
        return built

    def needs_of(self, phase: Phase) -> Needs:
        """Return what a phase is served."""
        return phase.needs or self.needs

    def scene(self, phase: Phase, *, seed: int, step: int = 0) -> Scene:
        """Draw a batch and both answers, with what the phase is served and nothing else."""
        return make_scene(self.case, self.needs_of(phase), seed=seed, step=step)

    def terms(
        self, distiller: AnyDistiller, phase: Phase, scene: Scene, *, seed: int = 0, widened: bool = True
    ) -> Terms:
        """Run a phase's terms: what it trains in train mode with gradients, the rest frozen and in eval mode.

        Args:
            seed: of random draws. widened: as the core does, answers in half precision come as float32.
        """
        for name, child in distiller.named_children():
            child.train(name in phase.trains).requires_grad_(name in phase.trains)
        own = next(one for one in distiller.phases() if one.name == phase.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with guarded(f"phase {phase.name!r}", self.tell):
                return own.terms(scene.batch, *scene.outputs(runs_student=phase.runs_student, widened=widened))

    def backward(self, phase: Phase, terms: Terms) -> None:
        """Send the gradient of all terms back."""
        total = torch.stack(list(terms.values())).sum()
        if total.requires_grad:
            with guarded(f"the backward pass of phase {phase.name!r}", self.tell):
                torch.autograd.backward(total)

    def after_step(self, distiller: AnyDistiller, scene: Scene) -> None:
        """Tell the method that a step was done."""
        with guarded("after_step", self.tell):
            distiller.after_step(scene.batch)

    def step(self, distiller: AnyDistiller, phase: Phase, scene: Scene) -> Terms:
        """Do all of a step but the optimiser's part."""
        terms = self.terms(distiller, phase, scene)
        self.backward(phase, terms)
        self.after_step(distiller, scene)
        return terms


@contextmanager
def guarded(where: str, tell: Tell) -> Iterator[None]:
    """Turn whatever a stranger's code raises into a fault, after which this pair is given up."""
    try:
        yield
    except Broken:
        raise
    except Exception as cause:
        hint = cause.hint if isinstance(cause, CompressorError) and cause.hint else f"make {where} work on such a pair"
        tell(f"{where} raises {in_words(cause)}", hint)
        raise Broken from cause


def in_words(cause: Exception) -> str:
    """Return an exception's kind and the first line of its message."""
    lines = str(cause).strip().splitlines()
    return f"{type(cause).__name__}: {lines[0]}" if lines else type(cause).__name__


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors hold the same values of the same kind; NaN equals NaN."""
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and bool(torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan()))
