"""K8: a comparison killed again and again, or asked for twice at once, trains every cell once and ends in one table."""

import json
import random
import shutil
import signal
from collections import Counter
from pathlib import Path

from fault_runs import Stage, compare, table, weights
from figures import SEED, count, note

SIX = compare("kd,crd", seeds=2, training__epochs=1)
CELLS = 6


def results(place: Path) -> dict[str, float]:
    """The accuracy of each cell."""
    cells = [json.loads(file.read_text()) for file in place.glob("comparison/cells/*/result.json")]
    return {f"{cell['method']} {cell['seed']}": cell["metrics"]["top1"] for cell in cells}


def test_comparison_of_six_cells_killed_again_and_again_trains_each_once(stage: Stage) -> None:
    undisturbed = stage.place()
    whole = stage.run(SIX, undisturbed)
    assert whole.status == 0, whole.output
    assert len(results(undisturbed)) == CELLS
    chance = random.Random(SEED)
    wanted_kills, kills, repeated = count(6, 50), 0, 0
    while kills < wanted_kills:
        place, finished, status = stage.place(), Counter[str](), -1
        while status != 0:
            last_word = chance.randint(1, len(whole.said)) if kills < wanted_kills else len(whole.said) + 1
            child = stage.start(SIX, place)
            for number, _ in enumerate(child.talk(), 1):
                if number == last_word:
                    child.signal()
            status = child.wait()
            assert status in (0, -signal.SIGKILL), child.output
            kills += status != 0
            finished.update(words for words in child.said if words.startswith("done "))
        repeated += sum(number > 1 for number in finished.values())
        assert results(place) == results(undisturbed)
        assert table(place) == table(undisturbed)
        assert weights(place) == weights(undisturbed)
        shutil.rmtree(place)
    assert repeated == 0
    note("K8", tried=kills, cells_repeated=repeated)


def test_two_comparisons_at_once_never_share_a_cell(stage: Stage) -> None:
    undisturbed, place = stage.place(), stage.place()
    assert stage.run(SIX, undisturbed).status == 0
    both = [stage.start(SIX, place) for _ in range(2)]
    codes = sorted(child.wait() for child in both)
    loser = next(child for child in both if child.status == max(codes))
    assert codes == [0, 4], [child.output for child in both]
    assert "is in use by process" in loser.output
    assert "Traceback" not in loser.output
    last = stage.run(SIX, place)
    assert last.status == 0, last.output
    assert not [words for words in last.said if words.startswith("done ")]
    assert table(place) == table(undisturbed)
    assert weights(place) == weights(undisturbed)
    finished = Counter(words for child in both for words in child.said if words.startswith("done "))
    assert set(finished.values()) == {1}
    assert len(finished) == CELLS
    note("K8", tried=1, exits=codes)
