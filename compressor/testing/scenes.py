"""Made-up pairs of networks and their answers, for checks that train nothing."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from compressor.distiller import Batch, ModelOutput, Needs, NetworkSpec, Pair, StageSpec
from compressor.errors import UnsupportedPair
from compressor.functional import wide
from compressor.testing.networks import Shape, TinyNetwork, TinyTail, tiny_classifier

IMAGES = 6
_TRAINING_IMAGES = 24
Maps = tuple[Shape, ...]


@dataclass(frozen=True, kw_only=True)
class Network:
    """Shapes of a made-up network: embedding width, and (C, H, W) of its stages, stem first."""

    width: int
    maps: Maps

    def real(self, classes: int) -> TinyNetwork:
        """Return a network of these shapes, for images of the first map's size."""
        return TinyNetwork(self.maps, self.width, classes)

    def spec(self, name: str, classes: int, needs: Needs) -> NetworkSpec:
        """Return what a method would be told of it: only what it declared."""
        shown = self.maps if needs.stages or needs.preacts else ()

        def make_tail(stage: int) -> TinyTail:
            if not 0 <= stage < len(self.maps):
                raise UnsupportedPair(f"{name} has stages 0 to {len(self.maps) - 1}, not {stage}")
            return TinyTail(self.maps[stage][0], self.width)

        return NetworkSpec(
            name=name,
            stages=tuple(
                StageSpec(name=f"stage{number}", channels=channels, height=height, width=width)
                for number, (channels, height, width) in enumerate(shown)
            ),
            preacts=bool(needs.preacts),
            embedding_width=self.width if needs.embedding else 0,
            num_classes=classes,
            pooled_embedding=bool(needs.stages and needs.embedding) and self.width == self.maps[-1][0],
            tail_maker=make_tail if needs.tails else None,
            classifier_copier=partial(tiny_classifier, self.width, classes) if needs.classifier else None,
        )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A made-up pair: both networks and the number of classes; ``label`` says in words what is special."""

    label: str
    student: Network
    teacher: Network
    classes: int

    def pair(self, needs: Needs) -> Pair:
        """Return what a method would be built on."""
        counts = torch.bincount(self.training_labels(), minlength=self.classes)
        return Pair(
            student=self.student.spec("made_up_student", self.classes, needs.of("student")),
            teacher=self.teacher.spec("made_up_teacher", self.classes, needs.of("teacher")) if needs.teacher else None,
            num_classes=self.classes,
            train_size=_TRAINING_IMAGES,
            class_counts=tuple(counts.tolist()),
        )

    def training_labels(self) -> Tensor:
        """Return the label of every made-up training image."""
        return torch.arange(_TRAINING_IMAGES) % self.classes


_SMALL: Maps = ((4, 8, 8), (8, 8, 8), (8, 4, 4), (16, 2, 2))
_LARGE: Maps = ((6, 8, 8), (12, 8, 8), (20, 8, 8), (24, 4, 4), (32, 2, 2))
_OBLONG: Maps = ((6, 12, 4), (10, 6, 2), (10, 3, 1))
CASES = (
    Case(
        label="equal networks, 10 classes",
        student=Network(width=16, maps=_SMALL),
        teacher=Network(width=16, maps=_SMALL),
        classes=10,
    ),
    Case(
        label="other widths and stages, 2 classes",
        student=Network(width=12, maps=_SMALL),
        teacher=Network(width=20, maps=_LARGE),
        classes=2,
    ),
    Case(
        label="a student larger than its teacher, oblong maps, 10 classes",
        student=Network(width=20, maps=_OBLONG),
        teacher=Network(width=8, maps=_SMALL),
        classes=10,
    ),
)


@dataclass(frozen=True)
class Scene:
    """A batch and what both networks answered to it.

    Attributes:
        student, teacher: the tensors that were served, by name (``stages 0``, ``embedding``, ...).
    """

    needs: Needs
    batch: Batch
    student: dict[str, Tensor]
    teacher: dict[str, Tensor]

    def outputs(self, *, runs_student: bool, widened: bool = True) -> tuple[ModelOutput, ModelOutput]:
        """Return both answers as a method gets them: in float32 at least, as the core hands them on, if widened."""
        ours = _output(self.student, "student") if runs_student else ModelOutput(owner="student")
        theirs = _output(self.teacher, "teacher") if self.needs.teacher else ModelOutput(owner="teacher")
        return (ours.apply(wide), theirs.apply(wide)) if widened else (ours, theirs)

    def rounded(self, dtype: torch.dtype) -> "Scene":
        """Return a copy in which both networks answered in ``dtype``; no tensor of the teacher asks for a gradient."""
        copied = self.apart(gradient=False)
        for tensors, wants in ((copied.student, True), (copied.teacher, False)):
            for name, value in tensors.items():
                tensors[name] = value.detach().to(dtype).requires_grad_(wants)
        return copied

    def alike(self) -> "Scene":
        """Return a copy, in float64, in which the student answers what the teacher does."""
        copied = self.rounded(torch.float64)
        same = {name: value.clone().requires_grad_() for name, value in copied.teacher.items()}
        return replace(copied, student=same)

    def apart(self, *, gradient: bool) -> "Scene":
        """Return a copy that shares no memory; ``gradient`` says whether the teacher's tensors ask for one.

        The core's do only where the method trains the network in the teacher's place. Here they may, so that a gradient
        towards the teacher can be seen.
        """

        def copy(tensors: dict[str, Tensor], wants: bool) -> dict[str, Tensor]:
            return {name: value.detach().clone().requires_grad_(wants) for name, value in tensors.items()}

        return Scene(self.needs, self._with_batch(Tensor.clone), copy(self.student, True), copy(self.teacher, gradient))

    def permuted(self, order: Tensor) -> "Scene":
        """Return the same images in another order (N,)."""
        views = self.batch.views

        def rows(value: Tensor) -> Tensor:
            return value.detach().view(-1, views, *value.shape[1:])[order].flatten(0, 1)

        def images(value: Tensor) -> Tensor:
            return value[order]

        student = {name: rows(value).requires_grad_() for name, value in self.student.items()}
        return Scene(
            self.needs, self._with_batch(images), student, {name: rows(value) for name, value in self.teacher.items()}
        )

    def _with_batch(self, each: Callable[[Tensor], Tensor]) -> Batch:
        batch = self.batch
        return replace(
            batch,
            labels=each(batch.labels),
            index_or_none=None if batch.index_or_none is None else each(batch.index_or_none),
            contrast_or_none=None if batch.contrast_or_none is None else each(batch.contrast_or_none),
        )


def make_scene(case: Case, needs: Needs, *, seed: int, step: int = 0) -> Scene:
    """Draw a batch and both answers.

    The teacher is right about every image and turns views of one image into nearly the same embedding, so that what a
    method selects does not hang on ties.
    """
    draw = torch.Generator().manual_seed(seed)
    training = case.training_labels()
    index = torch.randperm(_TRAINING_IMAGES, generator=draw)[:IMAGES]
    labels = training[index]
    batch = Batch(
        labels=labels,
        views=needs.views.count,
        epoch=0,
        step=step,
        progress=0.25,
        index_or_none=index if needs.index or needs.negatives else None,
        contrast_or_none=_contrast(index, training, needs, draw),
    )
    rows = labels.repeat_interleave(needs.views.count)
    student = _answer(case.student, case.classes, needs.of("student"), rows, draw, sure=False)
    teacher = _answer(case.teacher, case.classes, needs.of("teacher"), rows, draw, sure=True) if needs.teacher else {}
    return Scene(needs, batch, student, teacher)


def _contrast(index: Tensor, training: Tensor, needs: Needs, draw: torch.Generator) -> Tensor | None:
    if needs.negatives is None:
        return None
    rows = []
    for position in index.tolist():
        others = (training != training[position]).nonzero()[:, 0]
        own = (training == training[position]).nonzero()[:, 0]
        exact = needs.negatives.positive == "exact"
        positive = torch.tensor([position]) if exact else own[torch.randint(len(own), (1,), generator=draw)]
        rows.append(torch.cat([positive, others[torch.randint(len(others), (needs.negatives.count,), generator=draw)]]))
    return torch.stack(rows)


def _answer(
    network: Network, classes: int, needs: Needs, labels: Tensor, draw: torch.Generator, *, sure: bool
) -> dict[str, Tensor]:
    count = len(labels)
    logits = torch.randn(count, classes, generator=draw)
    if sure:
        logits[torch.arange(count), labels] += 8
    served = {"logits": logits}
    preacts = [torch.randn(count, *shape, generator=draw) for shape in network.maps]
    if needs.preacts:
        served |= {f"preacts {number}": value for number, value in enumerate(preacts)}
    if needs.stages:
        served |= {f"stages {number}": value.relu() for number, value in enumerate(preacts)}
    if needs.embedding:
        of_image = torch.randn(count // needs.views.count, network.width, generator=draw)
        of_row = torch.randn(count, network.width, generator=draw)
        served["embedding"] = of_image.repeat_interleave(needs.views.count, 0) + (0.01 if sure else 1.0) * of_row
    return {name: value.requires_grad_(not sure) for name, value in served.items()}


def _output(tensors: dict[str, Tensor], owner: str) -> ModelOutput:
    def maps(kind: str) -> tuple[Tensor, ...] | None:
        return tuple(value for name, value in tensors.items() if name.startswith(f"{kind} ")) or None

    return ModelOutput(
        logits=tensors.get("logits"),
        stages=maps("stages"),
        preacts=maps("preacts"),
        embedding=tensors.get("embedding"),
        owner=owner,
    )
