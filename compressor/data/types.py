"""What the rest of the core knows of data: splits that turn positions into views, and what travels with them."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from torch import Tensor

from compressor.data.scenarios import LabelNoise, Scenario
from compressor.distiller import Views


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How a training image is varied; every draw is a function of (seed, purpose, epoch, sample).

    Args:
        crop_padding: pixels of zero border before a crop back to size (resident images); >= 0.
        flip: whether images are mirrored left-right with probability one half.
        crop_scale: smallest share of the area in a random resized crop (streamed images); in (0, 1].
        pool: how many draws each image has for all epochs and seeds (see `compressor.data.pool`); 0 for a fresh one in
            every epoch. pool_seed: of those draws. numbered: whether batches tell which pictures they hold.
    """

    crop_padding: int = 0
    flip: bool = False
    crop_scale: float = 0.35
    pool: int = 0
    pool_seed: int = 0
    numbered: bool = False

    def fresh(self) -> "Augmentation":
        """Return the same with fresh draws in every epoch, unnumbered."""
        return replace(self, pool=0, pool_seed=0, numbered=False)

    def described(self) -> dict[str, Any]:
        """Return what decides the pixels, for hashes; without a pool nothing is said of one."""
        unsaid = {"numbered"} if self.pool else {"numbered", "pool", "pool_seed"}
        return {key: value for key, value in asdict(self).items() if key not in unsaid}


@dataclass(frozen=True)
class ViewSlot:
    """One view that some lane wants: number ``view`` of family ``views``; view 0 of every family is the same slot."""

    views: Views
    view: int

    @property
    def key(self) -> str:
        """Name of the slot's random draws; the same for every union of lanes."""
        return "plain" if self.view == 0 or self.views.shared_crop else f"{self.views.family}-{self.view}"


PLAIN = ViewSlot(Views(), 0)


@dataclass(frozen=True)
class ImageBatch:
    """Pixels of one batch.

    Args:
        images: (N, S, C, H, W), S the slots asked for, in order; uint8, or float32 where the data came normalised.
        labels: (N,) int64. index: (N,) int64 positions in the split.
        draw: (N, S) int64 on the CPU, the number of each picture among all that the slot can show: position times
            `compressor.data.pool.pictures_each`, plus which of them; None where the augmentation does not number them.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    draw: Tensor | None = None


class Split(Protocol):
    """Labelled images that can be asked for by position."""

    @property
    def labels(self) -> Tensor:
        """(N,) int64 on the CPU."""
        ...

    @property
    def normalised(self) -> bool:
        """Whether images come as float32 that needs no further normalisation."""
        ...

    def __len__(self) -> int: ...

    def batches(
        self,
        positions: Sequence[Tensor],
        *,
        slots: Sequence[ViewSlot] = (PLAIN,),
        augmentation: Augmentation | None = None,
        epoch: int = 0,
        seed: int = 0,
    ) -> Iterator[ImageBatch]:
        """Yield one batch for each tensor of positions, on the split's device.

        A pure function of its arguments: neither the grouping into batches nor the other slots change a sample's
        pixels. Without ``augmentation`` images are as evaluated (slot views are still applied).
        """
        ...

    def subset(self, positions: Tensor) -> "Split":
        """Return the split of these positions, in that order; its own positions count from 0."""
        ...


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Training, held-out and test images of one source, ready for a run.

    Args:
        name: as the user wrote it.
        class_names: K names in label order.
        train: what the student learns from, as ``scenario`` leaves it; val: held out of training, None when nothing
            was; test: looked at once, at the end.
        teacher_train: what the teacher (and artefacts of it) learn from: all training images, with clean labels.
        image_size: (C, H, W). mean, std: of the training images, C values each in [0, 1] units.
        sha256: of pixels or file names and sizes, labels and splits of everything the student's run can see.
        teacher_sha256: the same for what the teacher's training can see; the same for every ``scenario``.
        unreadable: images that were dropped because ``skip_bad_images`` allowed it.
        pipeline: ``resident`` or ``stream``.
        scenario: how ``train`` was made from ``teacher_train``. label_noise: None where every label is the source's.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    teacher_train: Split
    val: Split | None
    test: Split
    image_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    sha256: str
    teacher_sha256: str
    unreadable: tuple[str, ...] = ()
    pipeline: str = "resident"
    scenario: Scenario = field(default_factory=Scenario)
    label_noise: LabelNoise | None = None

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def clean_labels(self) -> Tensor:
        """(N,) int64 labels of ``train`` as the source has them, on the CPU; for looking back, never for training."""
        return self.train.labels if self.label_noise is None else self.label_noise.clean
