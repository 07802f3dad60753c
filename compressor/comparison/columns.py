"""The columns of a comparison: one definition for the page, Markdown and LaTeX, so that they show equal numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compressor.comparison.table import Interval, Row

NONE = "–"


@dataclass(frozen=True)
class Number:
    """A number as it is shown, with its full value and the name it has in ``table.csv``."""

    key: str
    value: float
    text: str


Cell = Sequence[str | Number]
"""What stands in one place of a table: words and numbers, in order."""


@dataclass(frozen=True)
class Column:
    """A column: its heading, what it means in a sentence, and what it shows of a row."""

    title: str
    meaning: str
    cell: Callable[[Row], Cell]


def text_of(cell: Cell) -> str:
    """Return a cell as plain text, empty where there is nothing."""
    text = "".join(part if isinstance(part, str) else part.text for part in cell)
    return "" if text == NONE else text


def number(row: Row, key: str, form: str, *, scale: float = 1.0) -> Cell:
    """Show one number of a row, divided by ``scale``; a dash where there is none."""
    value: float | None = getattr(row, key)
    if value is None:
        return (NONE,)
    return (Number(key, value, format(value if scale == 1.0 else value / scale, form)),)


def spread(row: Row, mean: str, deviation: str) -> Cell:
    """Show a mean and its deviation over seeds."""
    first = number(row, mean, ".2f")
    if getattr(row, deviation) is None:
        return first
    return (*first, " ± ", *number(row, deviation, ".2f"))


def gap(row: Row, difference: str, interval: str) -> Cell:
    """Show a difference with its interval."""
    found: Interval | None = getattr(row, interval)
    return (*number(row, difference, "+.2f"), *(() if found is None else (" ", *_span(interval, found))))


def span(row: Row, key: str) -> Cell:
    """Show an interval alone."""
    found: Interval | None = getattr(row, key)
    return (NONE,) if found is None else _span(key, found)


def _span(key: str, interval: Interval) -> Cell:
    low, high = interval
    return ("[", Number(f"{key}_low", low, f"{low:+.2f}"), ", ", Number(f"{key}_high", high, f"{high:+.2f}"), "]")


def accuracy_columns(rows: Sequence[Row], baseline: str) -> list[Column]:
    """Return the columns of the first table; those that no row fills, or that repeat another, are left out."""
    columns = [
        METHOD,
        Column(
            "top-1 %",
            "Mean ± standard deviation over seeds, of the published epoch (the last, unless told), on the test images.",
            lambda row: spread(row, "top1_mean", "top1_sd"),
        ),
        Column("n", "Finished seeds.", lambda row: number(row, "n", "d")),
        Column(
            f"vs {baseline} [95 %]",
            "Mean difference over seeds, paired, with the t interval.",
            lambda row: gap(row, "difference", "interval"),
        ),
        Column("p", "Paired t test, corrected for the methods by Holm.", lambda row: number(row, "p_value", ".2g")),
        Column("verdict", "What the seeds allow to be said.", lambda row: (row.verdict or _unfinished(row),)),
        Column(
            "over test images [95 %]",
            "The same difference when the test images are drawn anew, these students as they are: paired bootstrap.",
            lambda row: span(row, "image_interval"),
        ),
        Column(
            "vs equal compute [95 %]",
            "Mean difference to the baseline that saw as many images.",
            lambda row: gap(row, "equal_difference", "equal_interval"),
        ),
        *(
            Column(f"{name} %", f"Mean accuracy of the classes with {name} training images.", _group(f"{name}_top1"))
            for name in ("many", "medium", "few")
        ),
        Column("last epoch", "Test accuracy of the last epoch.", lambda row: spread(row, "last_mean", "last_sd")),
        Column(
            "held-out best",
            "Test accuracy of the epoch that was best on held-out images; never chosen on test images.",
            lambda row: spread(row, "best_mean", "best_sd"),
        ),
        Column(
            "best on test",
            "Of the epoch that was best on the test images, as many papers report it; nothing was chosen by it.",
            lambda row: spread(row, "paper_mean", "paper_sd"),
        ),
        Column(
            "seeds needed",
            "Seeds that would find a difference of this size and spread in 80 of 100 such comparisons.",
            lambda row: number(row, "seeds_needed", "d"),
        ),
    ]
    same = {f"{name}_mean" for name in ("last", "best") if all(_published(row, f"{name}_mean") for row in rows)}
    repeated = {"last_mean": "last epoch", "best_mean": "held-out best"}
    return filled([column for column in columns if column.title not in {repeated[key] for key in same}], rows)


def _group(key: str) -> Callable[[Row], Cell]:
    return lambda row: number(row, key, ".2f")


def _published(row: Row, key: str) -> bool:
    """Say whether an accuracy is just that of the published epoch."""
    return getattr(row, key) in (None, row.top1_mean)


def _unfinished(row: Row) -> str:
    return NONE if row.status == "done" else row.status


def cost_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of what training took and what the student is."""
    columns = [
        METHOD,
        Column("params", "Trained numbers of the network.", lambda row: number(row, "parameters", ",d")),
        Column("MACs", "Multiply-adds for one image.", lambda row: number(row, "macs", ",d")),
        Column("weights MB", "Size of the published file.", lambda row: number(row, "size_bytes", ",.2f", scale=1e6)),
        Column("ms/image", "Latency of one image: median, with quartiles.", _latency),
        Column("train s", "Seconds in the student's steps, all phases.", lambda row: _seconds(row, "train_seconds")),
        Column(
            "teacher s",
            "Seconds of teacher passes if the method ran alone, estimated from its pass over the test images.",
            lambda row: _seconds(row, "teacher_seconds"),
        ),
        Column("images", "Images the student was shown, each view counted.", lambda row: number(row, "images", ",d")),
        Column("teacher images", "Images the teacher was shown.", lambda row: number(row, "teacher_images", ",d")),
        Column("views", "Views of each training image.", lambda row: number(row, "views", "d")),
        Column("peak MB", "Peak memory of the process, shared by all methods of a seed.", lambda row: _megabytes(row)),
    ]
    return filled(columns, rows)


def closeness_columns(rows: Sequence[Row]) -> list[Column]:
    """Return the columns of how near a student is to its teacher, and whether its certainty can be believed."""
    columns = [
        METHOD,
        Column("agreement %", "Same choice as the teacher.", lambda row: number(row, "agreement", ".2f")),
        Column("KL", "KL(teacher || student) of the outputs, in nats.", lambda row: number(row, "teacher_kl", ".3f")),
        Column("CKA", "Linear CKA of the embeddings, up to 2,000 test images.", lambda row: number(row, "cka", ".3f")),
        Column("ECE", "Expected calibration error, 15 bins.", lambda row: number(row, "ece", ".4f")),
        Column("T", "Temperature fitted on held-out images.", lambda row: number(row, "temperature", ".2f")),
        Column("ECE at T", "Calibration error with it.", lambda row: number(row, "ece_scaled", ".4f")),
    ]
    return filled(columns, rows)


def filled(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Return the columns that show something of some row."""
    return [column for column in columns if any(text_of(column.cell(row)) for row in rows)]


METHOD = Column("method", "Name of the method; scratch learns from labels alone.", lambda row: (row.method,))


def _latency(row: Row) -> Cell:
    if row.latency_low is None or row.latency_high is None:
        return number(row, "latency_ms", ".2f")
    low, high = number(row, "latency_low", ".2f"), number(row, "latency_high", ".2f")
    return (*number(row, "latency_ms", ".2f"), " (", *low, " to ", *high, ")")


def _seconds(row: Row, key: str) -> Cell:
    return number(row, key, ",.1f")


def _megabytes(row: Row) -> Cell:
    return number(row, "peak_bytes", ",.0f", scale=1e6)
