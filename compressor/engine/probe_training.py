"""What a linear probe is made of: a frozen trunk, its embeddings, and classifiers trained on them."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compressor.data.types import Augmentation, DataSet, Split
from compressor.engine.normalise import Normalisation
from compressor.errors import UsageError
from compressor.events import Listener, Progress
from compressor.models.taps import TappedModel, Wanted
from compressor.streams import generator

_BATCH = 256


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How the linear classifier is trained; the defaults are those of the transfer tables on STL-10 and TinyImageNet.

    Args:
        epochs: >= 1. batch_size: >= 1. lr: at the start, > 0; times ``decay`` at each of ``milestones``, which are
            shares of the epochs. momentum: of Nesterov's kind. weight_decay: >= 0.
        seeds: 0 to seeds - 1 are run, each with its own first weights, order and crops.
        augment: random crops and flips, which take a pass through the trunk in every epoch; without them the
            embeddings are computed once. crop_scale: smallest share of the area of a random crop, in (0, 1].

    Raises:
        UsageError: a value is out of range.

    Source: Xu et al. 2020, arXiv:2006.07114, table of transfer, with the numbers of the script of Yang et al. 2021,
    arXiv:2107.13715. Both report the best epoch on the test images; here the last epoch counts.
    """

    epochs: int = 100
    batch_size: int = 64
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    milestones: tuple[float, ...] = (0.3, 0.6, 0.9)
    decay: float = 0.1
    seeds: int = 1
    augment: bool = True
    crop_scale: float = 0.08

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("seeds", 1)):
            value = getattr(self, name)
            if value < least:
                raise UsageError(f"--{name.replace('_', '-')} must be >= {least}, got {value}")
        if not 0 < self.lr < float("inf"):
            raise UsageError(f"--lr must be > 0, got {self.lr}", hint="--lr 0.1")


@dataclass(frozen=True)
class Embedded:
    """Embeddings (N, D) float32 and labels (N,) of a split, on the device."""

    embeddings: Tensor
    labels: Tensor


class Trunk:
    """A network that only tells its embedding: in eval mode, frozen, without gradient."""

    def __init__(self, net: nn.Module, normalisation: Normalisation, device: torch.device) -> None:
        net.to(device).eval().requires_grad_(False)
        self._tapped = TappedModel(net, owner="student").eval()
        self._normalisation = normalisation
        self.device = device

    def embed(self, images: Tensor) -> Tensor:
        """Return (N, D) float32 for images (N, C, H, W)."""
        with torch.no_grad():
            embedding = self._tapped(self._normalisation(images), Wanted(embedding=True)).embedding
        assert isinstance(embedding, Tensor)
        return embedding.float()

    def embed_split(self, split: Split) -> Embedded:
        """Embed all images as they are evaluated."""
        batches = split.batches(list(torch.split(torch.arange(len(split)), _BATCH)))
        parts = [(self.embed(batch.images[:, 0]), batch.labels) for batch in batches]
        return Embedded(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))


class ProbeTraining:
    """Trains linear classifiers, one a seed, on the embeddings of the training images.

    Args:
        width: D of the embedding. augmentation: None computes the embeddings once, for all epochs and seeds.
    """

    def __init__(
        self, trunk: Trunk, data: DataSet, width: int, settings: ProbeSettings, augmentation: Augmentation | None
    ) -> None:
        self._trunk = trunk
        self._data = data
        self._width = width
        self._settings = settings
        self._augmentation = augmentation
        self._fixed = trunk.embed_split(data.train) if augmentation is None else None

    def run(self, seed: int, listener: Listener) -> nn.Linear:
        """Return a classifier after its last epoch."""
        head = new_head(self._width, self._data.num_classes, seed).to(self._trunk.device)
        optimizer = self._optimizer(head)
        began = time.monotonic()
        for epoch in range(self._settings.epochs):
            optimizer.param_groups[0]["lr"] = self.rate(epoch)
            loss = self._epoch(head, optimizer, epoch, seed)
            listener(self._progress(seed, epoch, loss, time.monotonic() - began))
        return head

    def _optimizer(self, head: nn.Linear) -> torch.optim.SGD:
        settings = self._settings
        return torch.optim.SGD(
            head.parameters(),
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
            weight_decay=settings.weight_decay,
        )

    def rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch, from 0."""
        drops = sum(epoch >= round(share * self._settings.epochs) for share in self._settings.milestones)
        return self._settings.lr * self._settings.decay**drops

    def _epoch(self, head: nn.Linear, optimizer: torch.optim.SGD, epoch: int, seed: int) -> float:
        """Return the mean loss over the images."""
        total = 0.0
        for batch in self._batches(epoch, seed):
            loss = F.cross_entropy(head(batch.embeddings), batch.labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
            total += float(loss.detach()) * len(batch.labels)
        return total / len(self._data.train)

    def _batches(self, epoch: int, seed: int) -> Iterator[Embedded]:
        order = torch.randperm(len(self._data.train), generator=generator(seed, "probe/order", epoch))
        positions = list(torch.split(order, self._settings.batch_size))
        if self._fixed is not None:
            for rows in (chosen.to(self._trunk.device) for chosen in positions):
                yield Embedded(self._fixed.embeddings[rows], self._fixed.labels[rows])
            return
        for batch in self._data.train.batches(positions, augmentation=self._augmentation, epoch=epoch, seed=seed):
            yield Embedded(self._trunk.embed(batch.images[:, 0]), batch.labels)

    def _progress(self, seed: int, epoch: int, loss: float, seconds: float) -> Progress:
        epochs, images = self._settings.epochs, len(self._data.train)
        steps, done = -(-images // self._settings.batch_size), epoch + 1
        return Progress(
            lane=f"probe s{seed}",
            phase="probe",
            epoch=done,
            epochs=epochs,
            step=done * steps,
            steps=epochs * steps,
            loss=loss,
            terms={"ce": loss},
            images_per_second=done * images / max(seconds, 1e-9),
            data_wait=0.0,
            seconds_left=seconds / done * (epochs - done),
        )


def new_head(width: int, num_classes: int, seed: int) -> nn.Linear:
    """Make a linear classifier with PyTorch's own first weights, drawn from the seed alone."""
    head = nn.Linear(width, num_classes)
    drawn = generator(seed, "probe/head")
    with torch.no_grad():
        for values in (head.weight, head.bias):
            values.uniform_(-(width**-0.5), width**-0.5, generator=drawn)
    return head


def top1_of(head: nn.Linear, test: Embedded) -> float:
    with torch.no_grad():
        return 100.0 * float((head(test.embeddings).argmax(1) == test.labels).double().mean())
