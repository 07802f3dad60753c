"""What a method declares that it needs, and the views of an image that it may ask for."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Views:
    """The family of views a method wants of each training image; view 0 is always the plain augmented image.

    The base image is flipped (or not) once; then `transform` makes view v of it; then every view is cropped by a draw
    of its own. With ``shared_crop`` the crop of view 0 comes first, and `transform` makes view v of what it left.
    Subclasses with ``count > 1`` override `transform`, whose view 0 must be the identity: so lanes that want one view
    and lanes that want several share view 0, its pixels and the teacher's answer to it.
    """

    count: int = 1
    shared_crop: bool = False

    @property
    def family(self) -> str:
        """Name under which views are shared and their random draws are keyed."""
        return f"{type(self).__name__}{'-of-one-crop' if self.shared_crop else ''}"

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


Owner = Literal["student", "teacher"]
Whose = bool | Owner
"""Of which network something is served: of both, of neither, or of the one that is named."""


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the core must serve; whatever is not asked for here cannot be read from a `ModelOutput` or `Batch`.

    ``stages``, ``preacts`` and ``embedding`` are of both networks where they are True, and of one where they name it:
    ``Needs(stages="student")``. What is asked of one network alone costs the other one nothing.

    Args:
        teacher: a teacher's answer to every view.
        stages: feature maps, (B, C, H, W) each, from the stem to the last stage.
        preacts: the same maps before their last activation; a network without them is refused.
        embedding: the vector (B, D) that enters the classifier.
        views: which views of each image both networks see.
        index: the position of each sample in the student's training set.
        negatives: contrast indices, see `Negatives`.
        tails: `NetworkSpec.make_tail` of both networks; a network whose stages cannot be copied is refused.
        classifier: `NetworkSpec.copy_classifier` of the teacher.
        own_teacher: no trained teacher is asked for. A network of the teacher's architecture with random weights stands
            in its place; the phases whose `Phase.trains` names ``"teacher"`` train it.
    """

    teacher: bool = True
    stages: Whose = False
    preacts: Whose = False
    embedding: Whose = False
    views: Views = field(default_factory=Views)
    index: bool = False
    negatives: Negatives | None = None
    tails: bool = False
    classifier: bool = False
    own_teacher: bool = False

    def __post_init__(self) -> None:
        if self.own_teacher and not self.teacher:
            raise ValueError("Needs(own_teacher=True) also needs teacher=True: its answer is served")
        for name in _PARTS:
            whose = getattr(self, name)
            if not isinstance(whose, bool) and whose not in ("student", "teacher"):
                raise ValueError(f"Needs({name}=...) is True, False, 'student' or 'teacher', got {whose!r}")
            if whose == "teacher" and not self.teacher:
                raise ValueError(f"Needs({name}='teacher') also needs teacher=True")

    def of(self, owner: Owner) -> "Needs":
        """Return what is asked of one network: parts are True where it must serve them, and False elsewhere."""
        stages, preacts, embedding = (getattr(self, name) in (True, owner) for name in _PARTS)
        return replace(self, stages=stages, preacts=preacts, embedding=embedding)


_PARTS = ("stages", "preacts", "embedding")
