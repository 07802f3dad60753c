"""S2: whatever file operation the system refuses, once or from then on, the user is told, and nothing is lost."""

import errno
from pathlib import Path
from typing import Any

import pytest
from fault_runs import Stage
from figures import NIGHTLY, note
from test_dying_disks import CASES, outcome, prepared

CODES = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EACCES)
REFUSALS = tuple((code, for_ever) for for_ever in (False, True) for code in CODES)
STRIDES = {"distill": 2, "teach": 6, "compare": 9, "publish": 1}
SHARDS = 2


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("name", STRIDES)
def test_refused_operation_is_told_and_the_same_command_then_ends_identical(
    name: str, shard: int, stage: Stage
) -> None:
    case = CASES[name]
    before = prepared(stage, name)
    undisturbed = stage.copy(before)
    whole = stage.run(case.args, undisturbed, save_every=case.save_every, disk={"kind": "count"})
    wanted, operations = outcome(name, undisturbed), whole.last("operations")
    assert operations is not None
    tried = [
        (number, *refusal)
        for number in range(1, operations + 1)
        for place, refusal in enumerate(REFUSALS)
        if NIGHTLY or (number % STRIDES[name] == 0 and number // STRIDES[name] % len(REFUSALS) == place)
    ][shard::SHARDS]
    exits = []
    for number, code, for_ever in tried:
        place = stage.copy(before)
        disk = {"kind": "refuse", "number": number, "code": code, "for_ever": for_ever}
        refused = stage.run(case.args, place, save_every=case.save_every, disk=disk)
        story = f"{name}, operation {number} of {operations}, {errno.errorcode[code]}, for ever {for_ever}:\n"
        exits.append(refused.status)
        check_told(name, place, refused, wanted, story + refused.output)
        again = stage.run(case.args, place, save_every=case.save_every)
        assert again.status == 0, story + again.output
        assert outcome(name, place) == wanted, story + again.output
    assert exits.count(4) > len(exits) // 2
    note("S2", tried=len(tried), exits=exits)


def check_told(name: str, place: Path, refused: Any, wanted: Any, story: str) -> None:
    """Exit 4 with one line, or all is there: an exit code 0 without the file is what must never be."""
    assert refused.status in (0, 4), story
    assert "Traceback" not in refused.output, story
    if refused.status == 0:
        assert outcome(name, place) == wanted, story
    else:
        assert [line for line in refused.output.splitlines() if line.startswith("error: ")], story
