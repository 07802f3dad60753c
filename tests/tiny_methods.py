"""Methods that exist for tests: one that asks for everything the contract offers, and some that misbehave."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from importlib.metadata import entry_points as installed

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor import registry
from compressor.distiller import (
    Batch,
    Distiller,
    ModelOutput,
    Needs,
    Negatives,
    Pair,
    Phase,
    Rotations,
    Schedule,
    Terms,
)


def plant(monkeypatch: pytest.MonkeyPatch, **methods: str) -> None:
    """Register methods for one test, each ``name="module:Class"``, beside the installed ones."""
    points = [EntryPoint(name, value, registry.METHODS) for name, value in methods.items()]

    def found(*, group: str) -> list[EntryPoint]:
        others = [point for point in installed(group=group) if point.name not in methods]
        return [*others, *points] if group == registry.METHODS else others

    monkeypatch.setattr(registry, "installed", found)
    registry.entry_points.cache_clear()


@dataclass(frozen=True, kw_only=True)
class NoConfig:
    """A method without settings."""


@dataclass(frozen=True, kw_only=True)
class AtConfig:
    """When it happens: ``at`` optimiser steps into the phase."""

    at: int = 3


@dataclass(frozen=True, kw_only=True)
class DemandingConfig:
    """Settings of the two phases before the student's."""

    probe_epochs: int = 1
    warm_epochs: int = 1


class Demanding(Distiller[DemandingConfig]):
    """Asks for everything: views, stages, embeddings, contrast indices, an artefact, a phase of its own, a bank."""

    name = "demanding"
    Config = DemandingConfig
    needs = Needs(stages=True, embedding=True, views=Rotations(4), index=True, negatives=Negatives(5))

    def __init__(self, config: DemandingConfig, pair: Pair) -> None:
        super().__init__(config, pair)
        width = pair.require_teacher(self.name).embedding_width
        self.probe = nn.Linear(width, 4)
        self.adapter = nn.Sequential(nn.Linear(pair.student.embedding_width, width), nn.Dropout(0.2))
        self.bank: Tensor
        self.register_buffer("bank", torch.randn(pair.train_size, 4) * 0.1)
        self.pending: list[Tensor] = []

    def phases(self) -> Sequence[Phase]:
        probe = Phase(
            name="probe",
            trains=("probe",),
            terms=self.probe_terms,
            schedule=Schedule(epochs=self.config.probe_epochs, lr=0.05),
            runs_student=False,
            artefact=True,
            artefact_settings=("probe_epochs",),
        )
        warm = Phase(
            name="warm",
            trains=("student", "adapter"),
            terms=self.warm_terms,
            schedule=Schedule(epochs=self.config.warm_epochs, lr=0.02, milestones=(0.5,)),
        )
        return (probe, warm, Phase(name="student", trains=("student", "adapter"), terms=self.terms))

    def probe_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        turned = torch.arange(4).repeat(len(batch.labels))
        return {"probe": F.cross_entropy(self.probe(teacher.embedding), turned)}

    def warm_terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"warm": F.mse_loss(self.adapter(student.embedding), teacher.embedding)}

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        plain = student.logits.view(-1, 4, student.logits.shape[1])[:, 0]
        self.pending.append(self.probe(teacher.embedding[::4]).detach())
        negatives = self.bank[batch.contrast].mean(1)
        return {
            "ce": F.cross_entropy(plain, batch.labels),
            "probe": 0.1 * F.mse_loss(self.probe(self.adapter(student.embedding)), self.probe(teacher.embedding)),
            "bank": 0.1 * (self.probe(self.adapter(student.embedding[::4])) * negatives).mean(),
            "stage": 0.01 * (student.stages[-1].mean() - teacher.stages[-1].mean()) ** 2,
        }

    def after_step(self, batch: Batch) -> None:
        if self.pending:
            self.bank[batch.index] = 0.5 * self.bank[batch.index] + 0.5 * self.pending.pop(0)


class Poisoned(Distiller[AtConfig]):
    """Returns NaN at one step."""

    name = "poisoned"
    Config = AtConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        loss = F.cross_entropy(student.logits, batch.labels)
        return {"ce": loss, "bad": loss * (float("nan") if batch.step == self.config.at else 0.0)}


class Falling(Distiller[AtConfig]):
    """Raises at one step, as a stranger's code may."""

    name = "falling"
    Config = AtConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        if batch.step == self.config.at:
            raise ZeroDivisionError("a stranger's bug")
        return {"ce": F.cross_entropy(student.logits, batch.labels)}


class Silent(Distiller[NoConfig]):
    """Returns no terms."""

    name = "silent"
    Config = NoConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {}


class Picky(Distiller[NoConfig]):
    """Refuses every pair."""

    name = "picky"
    Config = NoConfig

    @classmethod
    def check(cls, config: NoConfig, pair: Pair) -> None:
        from compressor.errors import UnsupportedPair

        raise UnsupportedPair("picky likes no pair")

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"ce": F.cross_entropy(student.logits, batch.labels)}


class Undeclared(Distiller[NoConfig]):
    """Reads what it did not ask for."""

    name = "undeclared"
    Config = NoConfig

    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        return {"embedding": teacher.embedding.mean() + student.logits.mean()}
