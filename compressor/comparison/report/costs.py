"""The picture of what training took: seconds of the student's steps and of its teacher's passes."""

from collections.abc import Sequence

from compressor.comparison.columns import NONE, Number, number
from compressor.comparison.report.accuracy import Curve
from compressor.comparison.report.svg import FIRST, SECOND, NumberTable, Picture, canvas, picture
from compressor.comparison.table import Row


def draw_costs(rows: Sequence[Row], *, key: str) -> Picture | None:
    """Draw seconds of training a method, the teacher's passes behind the student's steps, means over seeds."""
    shown = [row for row in rows if row.train_seconds is not None]
    if not shown:
        return None
    own = [row.train_seconds or 0.0 for row in shown]
    taught = [row.teacher_seconds or 0.0 for row in shown]
    with canvas(height=1.3 + 0.32 * len(shown)) as (figure, axes):
        axes.barh(range(len(shown)), own, height=0.6, color=FIRST, label="student's steps")
        axes.barh(range(len(shown)), taught, left=own, height=0.6, color=SECOND, label="teacher's passes (estimated)")
        axes.set_yticks(range(len(shown)), [row.method for row in shown])
        axes.invert_yaxis()
        axes.set_xlabel("seconds of training")
        axes.grid(visible=True, axis="x")
        figure.legend(loc="outside lower center", ncols=2)
        table = NumberTable(
            ("method", "student s", "teacher s"),
            [
                ((row.method,), number(row, "train_seconds", ",.2f"), number(row, "teacher_seconds", ",.2f"))
                for row in shown
            ],
        )
        dearest = max(shown, key=lambda row: (row.train_seconds or 0.0) + (row.teacher_seconds or 0.0))
        alt = (
            f"Seconds of training for {len(shown)} methods; {dearest.method} takes longest. The table has every number."
        )
        return picture(figure, key=key, title="Seconds of training", alt=alt, table=table)


def reached(curves: Sequence[Curve], baseline: str) -> NumberTable | None:
    """Return the first epoch at which each method's mean curve is where the baseline's ends; None without its curve."""
    goal = next((curve.means[-1] for curve in curves if curve.method == baseline), None)
    if goal is None:
        return None
    rows = []
    for curve in curves:
        first = next((epoch for epoch, mean in zip(curve.epochs, curve.means, strict=True) if mean >= goal), None)
        cell = (NONE,) if first is None else (Number("epoch", first, str(first)),)
        rows.append(((curve.method,), cell))
    return NumberTable(("method", f"first epoch at {goal:.2f} % held-out, where {baseline} ends"), rows)
