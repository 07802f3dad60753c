"""What a method may know of both networks and the training set before anything is built."""

from dataclasses import dataclass

from compressor.errors import UnsupportedPair


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
