"""K4, K5: real ``kill -9`` of the process group at any moment, half of them inside a save, again and again."""

import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from fault_client import Child
from fault_runs import Stage, answers, compare, distill, facts, publish, table, weights
from figures import SEED, count, note

COMMANDS = {
    "nothing": (distill(training__epochs=2), 4, count(9, 90)),
    "artefact": (distill("sskd", training__epochs=1), 4, count(6, 60)),
    "compare": (compare("kd,crd", training__epochs=1), 4, count(9, 90)),
    "publish": (publish(), 4, count(6, 60)),
    "pool": (distill(training__epochs=3, data__augmentation_pool=1), 4, count(4, 60)),
}
LONG = distill(training__epochs=5)
LONG_STEPS, SAVE_EVERY, KILLS = 25, 4, 8


def prepared(stage: Stage, name: str) -> Path:
    place = stage.place(bank=name != "nothing")
    if name == "publish":
        assert stage.run(distill(training__epochs=1), place).status == 0
    return place


def outcome(name: str, place: Path) -> Any:
    if name == "compare":
        return table(place), weights(place)
    if name == "pool":  # how the kept answers are spread over files is not the same
        own = {file: sha for file, sha in weights(place).items() if "/answers/" not in file}
        return {**facts(place), "files": None, "weights": own, "answers": answers(place)}
    return (weights(place), sorted(path.name for path in place.iterdir())) if name == "publish" else facts(place)


def shoot(stage: Stage, args: list[str], place: Path, save_every: int, shot: tuple[str, int, float]) -> Child:
    """Start the command and kill it ``delay`` seconds after it has said so many words, or at one file operation."""
    kind, number, delay = shot
    disk = {"kind": "knock", "number": number} if kind == "operation" else None
    child = stage.start(args, place, save_every=save_every, disk=disk)
    for heard, words in enumerate(child.talk(), 1) if number else ():
        if words == "knock" if kind == "operation" else heard >= number:
            break
    time.sleep(delay)
    child.signal(signal.SIGKILL)
    child.wait()
    return child


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_command_goes_on_and_ends_with_the_same_bits(name: str, stage: Stage) -> None:
    args, save_every, wanted_kills = COMMANDS[name]
    undisturbed = prepared(stage, name)
    whole = stage.run(args, undisturbed, save_every=save_every, disk={"kind": "count"})
    assert whole.status == 0, whole.output
    wanted, operations = outcome(name, undisturbed), whole.last("operations") or 0
    chance = random.Random(f"{name} {SEED}")
    kills, tries = 0, 0
    while kills < wanted_kills:
        tries += 1
        assert tries < 20 + 10 * wanted_kills, "hardly any shot hits"
        place = prepared(stage, name)
        shots = []
        for _ in range(chance.randint(1, 3)):
            inside = ("operation", chance.randint(1, operations), 0.0)
            shot = chance.choice([inside, ("words", chance.randint(0, len(whole.said) - 2), chance.uniform(0, 0.05))])
            child = shoot(stage, args, place, save_every, shot)
            shots.append((shot, child.status))
            assert child.status in (0, -signal.SIGKILL), child.output
            kills += child.status != 0
            if child.status == 0:
                break
        done = stage.run(args, place, save_every=save_every)
        story = f"seed {SEED}, shots {shots}:\n{done.output}"
        assert done.status == 0, story
        assert "Traceback" not in done.output, story
        assert outcome(name, place) == wanted, story
        shutil.rmtree(place)
    note("K4", tried=kills, runs=tries)


def test_run_killed_again_and_again_repeats_at_most_what_was_not_saved(stage: Stage) -> None:
    undisturbed = stage.place()
    assert stage.run(LONG, undisturbed, save_every=SAVE_EVERY).status == 0
    chance = random.Random(SEED)
    chains = count(2, 20)
    taken, killed = 0, 0
    for _ in range(chains):
        place, steps, kills = stage.place(), 0, 0
        child = None
        while child is None or child.status != 0:
            left = chance.randint(1, 7) if kills < KILLS else LONG_STEPS
            child = stage.start(LONG, place, save_every=SAVE_EVERY, steps=True)
            for words in child.talk():
                left -= words.startswith("stepped")
                if left == 0:
                    child.signal(signal.SIGKILL)
                    break
            child.wait()
            steps += sum(words.startswith("stepped") for words in child.said)
            kills += child.status != 0
            assert child.status in (0, -signal.SIGKILL), child.output
        assert facts(place) == facts(undisturbed)
        assert steps <= LONG_STEPS + kills * SAVE_EVERY
        taken, killed = taken + steps, killed + kills
    assert killed > 2 * chains
    note("K5", tried=chains, kills=killed, steps=taken, steps_undisturbed=chains * LONG_STEPS)
