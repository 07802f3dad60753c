"""JSON documents that come with packages: whoever brings recipes may bring records and published tables beside them."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from compressor.config.recipes import GROUP
from compressor.registry import entry_points


def documents(folder: str) -> Iterator[tuple[str, Path]]:
    """Yield the root package and path of each ``ROOT/<folder>/*.json`` of packages with recipes, by name.

    Nothing of the packages is imported.
    """
    roots = dict.fromkeys(entry.value.partition(".")[0] for entry in entry_points(GROUP))
    for root in roots:
        spec = find_spec(root)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield from ((root, file) for file in sorted((Path(place) / folder).glob("*.json")))
