"""Where images can come from, in words. Nothing here imports torch: `compress list data` must be quick."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceEntry:
    """One kind of source.

    Args:
        name: what is written after ``--data``; words in capitals stand for the user's own.
        meaning: one line.
    """

    name: str
    meaning: str


_SOURCES = (
    SourceEntry("digits", "1,797 handwritten digits of 8x8 pixels, 10 classes; comes with scikit-learn, needs no file"),
    SourceEntry(
        "torch/NAME", "a torchvision dataset that lies under --data-dir: cifar10, cifar100, mnist, flowers102 ..."
    ),
    SourceEntry("hfds/ORG/NAME", "an image dataset of the Hugging Face hub; needs pip install 'compress-kd[hfds]'"),
    SourceEntry("FOLDER", "a folder with train/ and val/, validation/ or test/, one folder of images a class in each"),
    SourceEntry("FILE.npz", "uint8 arrays x_train, y_train, x_test, y_test, or train_images ... as in MedMNIST"),
)


def describe_sources() -> tuple[SourceEntry, ...]:
    """Return every kind of source with its meaning, in the order in which they are shown."""
    return _SOURCES
