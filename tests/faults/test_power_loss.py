"""K3: power loss, with what was not synced lost, old or zeroed, loses no checkpoint and no finished run."""

import random
import shutil

import pytest
from fault_client import Child
from fault_power import Story
from fault_runs import Stage, compare, distill, facts, table, teach, weights
from figures import SEED, count, note
from test_dying_disks import last_saved

CASES = {
    "distill": (distill(training__epochs=2), 4, count(36, 180)),
    "teach": (teach(), 14, count(16, 60)),
    "compare": (compare(training__epochs=1), 100, count(8, 60)),
}


@pytest.mark.parametrize("name", CASES)
def test_state_after_power_loss_goes_on_to_the_same_bits(name: str, stage: Stage) -> None:
    args, save_every, states = CASES[name]
    place = stage.place(bank=name != "teach")
    before = stage.copy(place)
    book = place.with_name(f"{place.name}.book")
    done = stage.run(args, place, save_every=save_every, disk={"kind": "record", "book": str(book)})
    assert done.status == 0, done.output
    wanted = weights(place)
    story = Story(book, before, place)
    chance = random.Random(SEED)
    for number in range(states):
        moment = chance.randint(1, len(story.lines))
        seed = chance.getrandbits(32)
        target = stage.root / f"{place.name}.loss{number}"
        story.build(moment, random.Random(seed), target)
        told = tuple(done.said[: story.said_before(moment)])
        again = stage.run(args, target, save_every=save_every)
        tale = f"{name}, power lost after operation {moment} of {len(story.lines)}, seed {seed}:\n{again.output}"
        assert again.status == 0, tale
        assert "Traceback" not in again.output, tale
        assert weights(target) == wanted, tale
        refuse_lost_work(told, again, tale)
        if name == "distill":
            assert facts(target)["metrics"] == facts(place)["metrics"], tale
        if name == "compare":
            assert table(target) == table(place), tale
        shutil.rmtree(target)
    note("K3", tried=states, exits=[0] * states)


def refuse_lost_work(told: tuple[str, ...], again: Child, tale: str) -> None:
    """Nothing that the first command told to be saved or done is done once more."""
    for who in ("run", "teacher"):
        begun = [int(words.split()[-1]) for words in again.said if words.startswith(f"{who} student from")]
        if len(begun) == 1:  # of many lanes nobody says whose it was
            assert begun[0] >= last_saved(told, who), tale
    finished = {words for words in told if words.startswith("done ")}
    assert not finished & set(again.said), tale
