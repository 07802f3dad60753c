"""A worker: our own SSKD step with an augmentation pool, its answers not yet kept (``empty``) or all kept (``full``).

There are two batches of images: a pool of K draws is empty for the first K epochs, two steps each, and full afterwards.
"""

import argparse
import os
import sys
import tempfile
from dataclasses import replace
from itertools import count
from pathlib import Path

from benchmarks.our_steps import loop_of
from benchmarks.workers import Step, serve

BATCH = 64
BATCHES = 2


def pooled_steps(pair: str, folder: Path, *, pool: int, full: bool) -> Step:
    """Set up the loop, fill the pool if it is to be full, and return a step that takes an epoch and tells its mean."""
    from compressor.engine.answers import Answers
    from compressor.engine.replay import Replay

    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    settings = {"data.augmentation_pool": pool}
    loop = loop_of(["sskd"], pair, folder, images=BATCHES * BATCH, settings=settings)
    loop.session = replace(loop.session, replay=Replay(loop.session.runtime))
    loop.answers = Answers(loop.session, loop.plan, loop.split, BATCH, warn=print)
    loop.answers.prepare(2 * pool)
    epochs = count()
    if full:
        for _ in range(pool):
            loop.rehearse(BATCHES, next(epochs))
        loop.answers.flush(now=True)

    def step() -> float:
        before, epoch = loop.answers.computed, next(epochs)
        taken = loop.rehearse(BATCHES, epoch)
        if (loop.answers.computed == before) != full:
            raise RuntimeError(f"epoch {epoch} of a pool of {pool}: the answers were not as they should be")
        return sum(taken) / len(taken)

    return step


def main() -> None:
    """Prepare the case and serve."""
    from compressor.cli.process import prepare_process

    parser = argparse.ArgumentParser()
    parser.add_argument("state", choices=("empty", "full"))
    parser.add_argument("pair")
    parser.add_argument("--pool", type=int, default=8)
    parser.add_argument("--threads", type=int, default=0)
    asked = parser.parse_args()
    prepare_process(asked.threads)
    with tempfile.TemporaryDirectory() as folder:
        serve(pooled_steps(asked.pair, Path(folder), pool=asked.pool, full=asked.state == "full"))


if __name__ == "__main__":
    sys.exit(main())
