"""The contract of a method: what it declares, what it is given, what it returns.

A method is a settings class and what it says about a batch that both networks have seen::

    class KD(Distiller[KDConfig]):
        name = "kd"
        Config = KDConfig

        def terms(self, batch, student, teacher):
            return {"kd": soft_target_kl(student.logits, teacher.logits, self.config.temperature)}

Everything else is optional: what it needs (`Needs`), modules of its own (made in ``__init__``), phases before the
student's (`Phase`), and what it does after a step. The core serves what is declared and knows no method by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from compressor.errors import PluginError, UnsupportedPair

CONTRACT_VERSION = 1

Terms = dict[str, Tensor]
"""Named 0-d tensors, each already weighted; the trainer adds them up and logs them apart."""

ConfigT = TypeVar("ConfigT")
_ValueT = TypeVar("_ValueT")


@dataclass(frozen=True)
class Views:
    """The family of views a method wants of each training image; view 0 is always the plain augmented image.

    The base image is flipped (or not) once; then `transform` makes view v of it; then every view is cropped by a draw
    of its own. Subclasses with ``count > 1`` override `transform`, whose view 0 must be the identity: so lanes that
    want one view and lanes that want several share view 0, its pixels and the teacher's answer to it.
    """

    count: int = 1

    @property
    def family(self) -> str:
        """Name under which views are shared and their random draws are keyed."""
        return type(self).__name__

    def transform(self, images: Tensor, view: int) -> Tensor:
        """Return view ``view`` of ``images`` (N, C, H, W), any dtype, same shape; 0 returns them untouched."""
        if view != 0:
            raise IndexError(f"{self.family} has {self.count} view(s), not one numbered {view}")
        return images


@dataclass(frozen=True)
class Rotations(Views):
    """Counter-clockwise quarter turns: view v is turned by ``90 * v`` degrees (SSKD, section 4.1 of its paper)."""

    count: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.count <= 4:
            raise ValueError(f"Rotations.count must be 1 to 4, got {self.count}")

    def transform(self, images: Tensor, view: int) -> Tensor:
        """Return ``images`` (N, C, H, W) turned by ``view`` quarter turns; needs H = W unless ``view`` is even."""
        return torch.rot90(images, view, dims=(-2, -1)) if view else images


@dataclass(frozen=True)
class Negatives:
    """Ask for contrast indices with each batch.

    Args:
        count: K >= 1, samples of OTHER classes drawn for each sample, without replacement where enough exist.
        positive: ``exact`` puts the sample itself in column 0, ``relaxed`` a random sample of its class.
    """

    count: int
    positive: Literal["exact", "relaxed"] = "exact"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"negatives.count must be >= 1, got {self.count}")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the core must serve; whatever is not asked for here cannot be read from a `ModelOutput` or `Batch`.

    Args:
        teacher: a teacher's answer to every view.
        stages: feature maps of both networks, (B, C, H, W) each, from the stem to the last stage.
        preacts: the same maps before their last activation; a network without them is refused.
        embedding: the vector (B, D) that enters the classifier.
        views: which views of each image both networks see.
        index: the position of each sample in the student's training set.
        negatives: contrast indices, see `Negatives`.
    """

    teacher: bool = True
    stages: bool = False
    preacts: bool = False
    embedding: bool = False
    views: Views = field(default_factory=Views)
    index: bool = False
    negatives: Negatives | None = None


@dataclass(frozen=True, kw_only=True)
class StageSpec:
    """One feature map of a network at the run's input size: ``channels`` x ``height`` x ``width``."""

    name: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What a method may know of a network before training.

    Args:
        name: the registered name.
        stages: its feature maps, stem first; empty when the network shows none.
        preacts: whether every stage also has a pre-activation map.
        embedding_width: D of the embedding (B, D).
        num_classes: K of the logits (B, K).
    """

    name: str
    stages: tuple[StageSpec, ...]
    preacts: bool
    embedding_width: int
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both networks and the student's training set, as far as a method may build on them.

    Args:
        teacher: None when the method declared ``Needs(teacher=False)``.
        class_counts: training images of each class, K entries.
    """

    student: NetworkSpec
    teacher: NetworkSpec | None
    num_classes: int
    train_size: int
    class_counts: tuple[int, ...]

    def require_teacher(self, method: str) -> NetworkSpec:
        """Return the teacher's spec.

        Raises:
            UnsupportedPair: the run has no teacher.
        """
        if self.teacher is None:
            raise UnsupportedPair(f"{method} needs a teacher", hint="name one with --teacher")
        return self.teacher


class ModelOutput:
    """What a network answered: only what was declared in `Needs` is there.

    Rows are image-major, view fastest: with V views, rows ``V * i .. V * i + V - 1`` belong to image i. Reading what
    was not declared raises `PluginError`, so that a method's declaration cannot fall behind its code.
    """

    __slots__ = ("_embedding", "_logits", "_owner", "_preacts", "_stages")

    def __init__(
        self,
        *,
        logits: Tensor | None = None,
        stages: tuple[Tensor, ...] | None = None,
        preacts: tuple[Tensor, ...] | None = None,
        embedding: Tensor | None = None,
        owner: str = "network",
    ) -> None:
        self._logits = logits
        self._stages = stages
        self._preacts = preacts
        self._embedding = embedding
        self._owner = owner

    @property
    def logits(self) -> Tensor:
        """Scores before softmax, (B, K)."""
        return self._given(self._logits, "logits")

    @property
    def stages(self) -> tuple[Tensor, ...]:
        """Feature maps (B, C, H, W), stem first."""
        return self._given(self._stages, "stages")

    @property
    def preacts(self) -> tuple[Tensor, ...]:
        """Feature maps before their last activation, shapes as `stages`."""
        return self._given(self._preacts, "preacts")

    @property
    def embedding(self) -> Tensor:
        """Vectors that enter the classifier, (B, D)."""
        return self._given(self._embedding, "embedding")

    def apply(self, function: Callable[[Tensor], Tensor]) -> "ModelOutput":
        """Return the same answer with ``function`` applied to every tensor that was served."""

        def each(values: tuple[Tensor, ...] | None) -> tuple[Tensor, ...] | None:
            return None if values is None else tuple(function(value) for value in values)

        return ModelOutput(
            logits=None if self._logits is None else function(self._logits),
            stages=each(self._stages),
            preacts=each(self._preacts),
            embedding=None if self._embedding is None else function(self._embedding),
            owner=self._owner,
        )

    def only(self, needs: Needs) -> "ModelOutput":
        """Return the answer without what ``needs`` does not declare; logits stay."""
        return ModelOutput(
            logits=self._logits,
            stages=self._stages if needs.stages else None,
            preacts=self._preacts if needs.preacts else None,
            embedding=self._embedding if needs.embedding else None,
            owner=self._owner,
        )

    @staticmethod
    def interleave(outputs: "Sequence[ModelOutput]") -> "ModelOutput":
        """Join the answers to V views of the same N images into one of N * V rows, view fastest.

        Every output must serve the same parts; one output is returned as it is.
        """
        first = outputs[0]
        if len(outputs) == 1:
            return first

        def join(values: Sequence[Tensor]) -> Tensor:
            return torch.stack(list(values), dim=1).flatten(0, 1)

        def joined(tuples: Sequence[tuple[Tensor, ...] | None]) -> tuple[Tensor, ...] | None:
            served = [values for values in tuples if values is not None]
            return tuple(join(stage) for stage in zip(*served, strict=True)) if served else None

        embeddings = [output._embedding for output in outputs if output._embedding is not None]
        return ModelOutput(
            logits=join([output.logits for output in outputs]),
            stages=joined([output._stages for output in outputs]),
            preacts=joined([output._preacts for output in outputs]),
            embedding=join(embeddings) if embeddings else None,
            owner=first._owner,
        )

    def _given(self, value: _ValueT | None, what: str) -> _ValueT:
        if value is None:
            raise PluginError(
                f"{what} of the {self._owner} were read but not served in this phase",
                hint=f"declare Needs({what}=True) (logits: run the {self._owner} in this phase)",
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Batch:
    """N training images as a method sees them; the pixels themselves went to the networks.

    Args:
        labels: (N,) int64, one a base image; with V views the outputs have V * N rows.
        views: V, rows of an output for each label.
        epoch: of this phase, from 0.
        step: optimiser steps of this phase before this one, from 0.
        progress: share of this phase that is done, in [0, 1).
        index_or_none: (N,) int64 positions in the student's training set, where declared.
        contrast_or_none: (N, 1 + K) int64 positions: column 0 the positive, then K negatives, where declared.
        gather: joins a tensor's rows over all processes, in rank order; the identity with one process. No gradient.
    """

    labels: Tensor
    views: int
    epoch: int
    step: int
    progress: float
    index_or_none: Tensor | None = None
    contrast_or_none: Tensor | None = None
    gather: Callable[[Tensor], Tensor] = field(default=lambda tensor: tensor)

    @property
    def index(self) -> Tensor:
        """(N,) int64 positions in the student's training set; raises `PluginError` unless declared."""
        return self._given(self.index_or_none, "index", "Needs(index=True)")

    @property
    def contrast(self) -> Tensor:
        """(N, 1 + K) int64 positions, positive first; raises `PluginError` unless declared."""
        return self._given(self.contrast_or_none, "contrast indices", "Needs(negatives=Negatives(K))")

    @staticmethod
    def _given(value: Tensor | None, what: str, declare: str) -> Tensor:
        if value is None:
            raise PluginError(f"the batch's {what} were read but not declared", hint=f"declare {declare}")
        return value


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast a phase trains, where it differs from the run's own settings.

    Args:
        epochs: >= 0; 0 skips the phase.
        lr: > 0, learning rate at the start.
        milestones: shares of the phase in (0, 1) at which the rate is multiplied by ``decay``.
    """

    epochs: int
    lr: float
    milestones: tuple[float, ...] = ()
    decay: float = 0.1


TermsFunction = Callable[[Batch, ModelOutput, ModelOutput], Terms]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training.

    Args:
        name: unique within the method; names checkpoints and metrics.
        trains: ``"student"`` and/or names of the method's own child modules; everything else is frozen and in eval.
        terms: what is minimised.
        schedule: None takes the run's own settings.
        runs_student: False when the student is not looked at: then ``terms`` gets an empty student output.
        artefact: the product depends on the teacher and the teacher's data alone. It is trained on all of the
            teacher's data, kept in the cache, and shared by every student and seed. Implies ``runs_student=False``.
        artefact_settings: the settings of the method that the product depends on; they go into the cache's key.
    """

    name: str
    trains: tuple[str, ...]
    terms: TermsFunction
    schedule: Schedule | None = None
    runs_student: bool = True
    artefact: bool = False
    artefact_settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.artefact and self.runs_student:
            raise ValueError(f"phase {self.name!r}: an artefact of the teacher cannot depend on the student")
        if not self.trains:
            raise ValueError(f"phase {self.name!r} trains nothing")


class Distiller(nn.Module, ABC, Generic[ConfigT]):
    """Base of every method. Subclasses set `name` and `Config` and write `terms`.

    Child modules made in ``__init__`` (heads, adapters, banks) are trained as the phases say, saved with every
    checkpoint, and never exported.
    """

    name: ClassVar[str]
    Config: ClassVar[type]
    needs: ClassVar[Needs] = Needs()
    contract_version: ClassVar[int] = CONTRACT_VERSION

    def __init__(self, config: ConfigT, pair: Pair) -> None:
        super().__init__()
        self.config = config
        self.pair = pair

    @classmethod
    def needs_for(cls, config: ConfigT) -> Needs:
        """Return what a run with these settings needs; the default is the class's `needs`."""
        return cls.needs

    @classmethod
    def check(cls, config: ConfigT, pair: Pair) -> None:
        """Refuse, before anything is built or trained, a pair the method cannot work on.

        Raises:
            UnsupportedPair: naming what is missing.
        """

    @classmethod
    def memory_bytes(cls, config: ConfigT, pair: Pair) -> int:
        """Estimate the memory of the method's own state and largest intermediates, in bytes."""
        return 0

    @abstractmethod
    def terms(self, batch: Batch, student: ModelOutput, teacher: ModelOutput) -> Terms:
        """Return the weighted terms of the phase in which the student learns.

        Gradient must reach the student and never the teacher, whose output carries none.
        """

    def phases(self) -> Sequence[Phase]:
        """Return the phases in order; the default is one, in which student and all child modules train."""
        children = tuple(name for name, _ in self.named_children())
        return (Phase(name="student", trains=("student", *children), terms=self.terms),)

    def after_step(self, batch: Batch) -> None:
        """Move what is not trained (banks, queues). Called once for each micro-batch, after the optimiser's step."""

    def export(self, student: nn.Module) -> nn.Module:
        """Return what is published: the student alone."""
        return student
