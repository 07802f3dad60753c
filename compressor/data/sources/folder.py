"""A folder of image files: ``train/CLASS/...`` and ``val``, ``validation`` or ``test`` beside it."""

from pathlib import Path

from compressor.data.scan import class_folders, scan_split
from compressor.data.stores import RawData
from compressor.errors import InputError


def load(root: Path) -> RawData:
    """Scan a folder; labels number the class folders in sorted order.

    Raises:
        InputError: ``train`` or every evaluation folder is missing, or the classes of two of them are not the same.
    """
    if not (root / "train").is_dir():
        raise InputError(f"no folder {root / 'train'}", hint="a data folder holds train/ and val/, one folder a class")
    val = [name for name in ("val", "validation") if (root / name).is_dir()]
    test = [name for name in ("test",) if (root / name).is_dir()]
    if len(val) == 2:
        raise InputError(f"{root} has both val/ and validation/", hint="keep one of them")
    if not val + test:
        raise InputError(
            f"no val/, validation/ or test/ in {root}", hint="set some images apart: the result needs them"
        )
    class_names = class_folders(root / "train")
    if len(class_names) < 2:
        raise InputError(f"{root / 'train'} has one class, {class_names[0]!r}; at least two are needed")
    for name in val + test:
        _compare(root, class_names, name)
    train, *others = [scan_split(root, name, class_names) for name in ["train", *val, *test]]
    return RawData(
        class_names=class_names,
        train=train.part,
        val=others[0].part if len(others) == 2 else None,
        test=others[-1].part,
        unreadable=tuple(line for each in (train, *others) for line in each.unreadable),
    )


def _compare(root: Path, class_names: tuple[str, ...], split: str) -> None:
    other = class_folders(root / split)
    for here, there, missing in (
        ("train", split, sorted(set(class_names) - set(other))),
        (split, "train", sorted(set(other) - set(class_names))),
    ):
        if missing:
            listed = ", ".join(repr(name) for name in missing[:5]) + (" ..." if len(missing) > 5 else "")
            count = f"{len(missing)} class{'es' if len(missing) > 1 else ''}"
            raise InputError(
                f"{root}: {count} in {here}/ and not in {there}/: {listed}",
                hint="every class needs a folder of the same name in both",
            )
