"""What a report shows of a student beside its accuracy: how near it is to its teacher, what it saw, what it errs in."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.data.types import Split
from compressor.distiller import Needs
from compressor.engine.batching import Batching
from compressor.engine.evaluate import Predictions, predict
from compressor.engine.lanes import Lane
from compressor.engine.normalise import Normalisation
from compressor.engine.optimisation import schedule_of
from compressor.engine.session import Seat, Session
from compressor.errors import UnsupportedPair
from compressor.models.taps import TappedModel, Wanted

COMPARED = 2000
"""Test images, evenly spread, on which embeddings are compared."""
_HELD_OUT = 5000
_WORST = 12
_THUMBNAIL = 40


@dataclass(frozen=True)
class Portrait:
    """What is added to a run's result: plain numbers, tensors beside the test logits, and what training cost.

    Attributes:
        metrics: ``top1_last`` and ``top1_best`` in percent (of the last epoch, and of the best on held-out images, both
            on the test images); ``teacher_kl`` in nats; ``cka`` in [0, 1].
        tensors: ``val_logits``, ``val_labels`` of up to 5000 held-out images; ``teacher_classes`` (n,), its choice for
            each test image; ``worst_index`` and ``worst_images`` (m, 3, h, w) uint8, the most certain errors.
        cost: ``images``, ``teacher_images`` (views shown to each in training), ``teacher_seconds`` (estimated),
            ``views``, and all of it by phase.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    cost: Mapping[str, Any] = field(default_factory=dict)


class Portraits:
    """Makes the portraits of one session's students; the shared teacher is looked at once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._shared: tuple[Tensor | None, float] | None = None

    def of(
        self,
        seat: Seat,
        net: nn.Module,
        seen: Predictions,
        *,
        teacher: Predictions | None,
        other: Predictions | None,
        select: str,
    ) -> Portrait:
        """Look at a trained student.

        Args:
            net: as it is published, on the device. seen: its answers to the test images. teacher: its teacher's.
            other: of `other_epoch`. select: which epoch ``net`` is, ``last`` or ``best``.
        """
        data, lane = self._session.data, seat.lane
        metrics: dict[str, float] = {}
        if other is not None:
            last, best = (other, seen) if select == "best" else (seen, other)
            metrics |= {"top1_last": last.top1, "top1_best": best.top1}
        tensors = worst_errors(seen, data.test)
        if data.val is not None:
            held_out = predict(net, data.val, seat.normalisation, most=_HELD_OUT)
            tensors |= {"val_logits": held_out.logits, "val_labels": held_out.labels}
        cost = images_shown(lane, len(data.train), len(data.teacher_train))
        if teacher is not None:
            tensors["teacher_classes"] = teacher.logits.argmax(1).to(torch.int32)
            metrics["teacher_kl"] = divergence(seen.logits, teacher.logits)
            embedding, seconds = self._teacher(lane)
            cost["teacher_seconds"] = round(seconds * cost["teacher_images"], 3)
            own = embeddings(net, data.test, seat.normalisation)
            if own is not None and embedding is not None:
                metrics["cka"] = linear_cka(own, embedding)
        return Portrait(metrics, tensors, cost)

    def _teacher(self, lane: Lane) -> tuple[Tensor | None, float]:
        """Return the embeddings of the lane's teacher, and its seconds an image."""
        own, shared = lane.own_teacher, self._session.teacher
        if own is not None:
            return self._timed(own.tapped.net, own.normalisation)
        if self._shared is None and shared is not None:
            self._shared = self._timed(shared.tapped.net, shared.normalisation)
        return self._shared or (None, 0.0)

    def _timed(self, net: nn.Module, normalisation: Normalisation) -> tuple[Tensor | None, float]:
        began = time.perf_counter()
        answer = embeddings(net, self._session.data.test, normalisation)
        seconds = time.perf_counter() - began
        return answer, 0.0 if answer is None else seconds / len(answer)


def divergence(student_logits: Tensor, teacher_logits: Tensor) -> float:
    """Return the mean of ``KL(teacher || student)`` over images, in nats, >= 0; both (n, K), at temperature 1."""
    log_student, log_teacher = student_logits.double().log_softmax(1), teacher_logits.double().log_softmax(1)
    return float(F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True).clamp(min=0))


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Compare two sets of vectors of the same n images, whatever their widths, rotations and scales.

    Args:
        first: (n, D). second: (n, E).

    Returns:
        ``||Y'X||^2 / (||X'X|| ||Y'Y||)`` of the centred sets, in [0, 1]; 1 for equal geometry, 0 where one is constant.

    Source: Kornblith et al. 2019, arXiv:1905.00414, section 3 (linear kernel).
    """
    one = first.double() - first.double().mean(0)
    other = second.double() - second.double().mean(0)
    both = (other.T @ one).norm() ** 2
    alone = (one.T @ one).norm() * (other.T @ other).norm()
    return float(both / alone) if alone > 0 else 0.0


def embeddings(net: nn.Module, split: Split, normalisation: Normalisation) -> Tensor | None:
    """Return what enters the classifier, (m, D), for up to `COMPARED` images; None where the network hides it."""
    try:
        answers = predict(_Embedding(net), split, normalisation, most=COMPARED)
    except UnsupportedPair:
        return None
    return answers.logits


class _Embedding(nn.Module):
    """A network that answers with its embedding."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.tapped = TappedModel(net, owner="network")

    def forward(self, images: Tensor) -> Tensor:
        embedding: Tensor = self.tapped(images, Wanted(embedding=True)).embedding
        return embedding


def worst_errors(seen: Predictions, split: Split) -> dict[str, Tensor]:
    """Return positions and small pictures of the errors the network was most certain of; nothing without errors."""
    confidence, chosen = seen.logits.double().softmax(1).max(1)
    wrong = (chosen != seen.labels).nonzero().flatten()
    if len(wrong) == 0:
        return {}
    worst = wrong[confidence[wrong].argsort(descending=True, stable=True)[:_WORST]]
    images = next(iter(split.batches([worst]))).images[:, 0].cpu()
    return {"worst_index": worst, "worst_images": _thumbnails(images)}


def _thumbnails(images: Tensor) -> Tensor:
    """Return (m, C, h, w) uint8, no side above 40 pixels; images that came normalised are stretched to the range."""
    pixels = images.float()
    if images.dtype != torch.uint8:
        low, high = pixels.amin((1, 2, 3), keepdim=True), pixels.amax((1, 2, 3), keepdim=True)
        pixels = (pixels - low) / (high - low).clamp(min=1e-12) * 255
    shrink = max(pixels.shape[-2:]) / _THUMBNAIL
    if shrink > 1:
        size = [max(1, round(side / shrink)) for side in pixels.shape[-2:]]
        pixels = F.interpolate(pixels, size=size, mode="area")
    return pixels.round().clamp(0, 255).to(torch.uint8)


def images_shown(lane: Lane, train: int, teacher_train: int) -> dict[str, Any]:
    """Count the images, each view for itself, that student and teacher were shown in training, phase by phase.

    Args:
        train: images the student learns from. teacher_train: those that products of the teacher learn from.
    """
    everything = type(lane.module.distiller).needs_for(lane.module.distiller.config)
    phases: list[dict[str, Any]] = []
    for phase in lane.phases:
        needs: Needs = phase.needs or everything
        epochs = schedule_of(lane.training, phase.schedule).epochs
        batching = Batching.of(lane.training, teacher_train if phase.artefact else train, "student", 0)
        shown = epochs * sum(map(len, batching.epoch(0))) * needs.views.count
        phases.append(
            {
                "name": phase.name,
                "epochs": epochs,
                "views": needs.views.count,
                "images": shown if phase.runs_student else 0,
                "teacher_images": shown if needs.teacher else 0,
                "artefact": phase.artefact,
            }
        )
    totals = {key: sum(phase[key] for phase in phases) for key in ("images", "teacher_images")}
    return {**totals, "views": max(phase["views"] for phase in phases), "phases": phases}


def other_epoch(seat: Seat, split: Split, select: str) -> Predictions | None:
    """Look at the test images with the epoch that is not published: the best on held-out images, or the last.

    Call it before the best weights are loaded for publishing; the network is left as it was.

    Returns:
        None where nothing was held out; the same answers again where the last epoch is the best.
    """
    lane, net = seat.lane, seat.lane.exported
    if not lane.best.weights:
        return None
    if select == "best":
        return predict(net, split, seat.normalisation)
    last = {key: value.detach().clone() for key, value in net.state_dict().items()}
    net.load_state_dict(lane.best.weights)
    try:
        return predict(net, split, seat.normalisation)
    finally:
        net.load_state_dict(last)
