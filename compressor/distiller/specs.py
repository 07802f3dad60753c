"""What a method may know of both networks and the training set before anything is built."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from compressor.errors import PluginError, UnsupportedPair


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
        pooled_embedding: whether the embedding is the last map's mean over its positions, and nothing else.
        tail_maker: see `make_tail`. classifier_copier: see `copy_classifier`.
    """

    name: str
    stages: tuple[StageSpec, ...]
    preacts: bool
    embedding_width: int
    num_classes: int
    pooled_embedding: bool = False
    tail_maker: Callable[[int], nn.Module] | None = field(default=None, compare=False)
    classifier_copier: Callable[[], nn.Module] | None = field(default=None, compare=False)

    def make_tail(self, stage: int) -> nn.Module:
        """Make a fresh copy of the layers behind a stage, with random weights, ending in global pooling.

        Args:
            stage: position in `stages`. Behind the last one stands one more copy of the last stage, stride 1.

        Returns:
            a module from that stage's map (B, C, H, W) to vectors (B, D), with the attribute ``width`` = D.

        Raises:
            PluginError: not declared with ``Needs(tails=True)``. UnsupportedPair: this network cannot be copied so.
        """
        if self.tail_maker is None:
            raise PluginError(f"a tail of {self.name} was asked for but not declared", hint="declare Needs(tails=True)")
        return self.tail_maker(stage)

    def copy_classifier(self) -> nn.Module:
        """Copy the trained layer that turns the embedding (B, D) into logits (B, K).

        Raises:
            PluginError: not declared with ``Needs(classifier=True)``.
        """
        if self.classifier_copier is None:
            raise PluginError(
                f"the classifier of {self.name} was asked for but not declared", hint="declare Needs(classifier=True)"
            )
        return self.classifier_copier()


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
