"""What a study cost: its trials, its finals and scoring test; beside what it was quoted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedsweep.config.result import Emissions
from embedsweep.console import duration
from embedsweep.emissions.allocation import SHARED
from embedsweep.emissions.tracker import NO_CPU, is_cpu_estimated
from embedsweep.report.results import Cost, StudyResults, final_rows
from embedsweep.report.tables import FIGURES
from embedsweep.study.quote import GIB


@dataclass(frozen=True)
class StudyCosts:
    """What a study cost, by what for.

    Attributes:
        trials: of each of its trials with a known cost.
        finals: of each training of its finals, likewise.
        scoring: of scoring test and of averaging models; None where that was not measured.
        emissions: all of these for which more than the sums is known.
        has_soup: whether models were averaged, which is part of scoring.
    """

    trials: tuple[Cost, ...]
    finals: tuple[Cost, ...]
    scoring: Emissions | None
    emissions: tuple[Emissions, ...]
    has_soup: bool

    @property
    def all(self) -> tuple[Cost, ...]:
        """All costs."""
        return (*self.trials, *self.finals, *([] if self.scoring is None else [_cost(self.scoring)]))


def _cost(emissions: Emissions) -> Cost:
    return Cost(emissions.co2eq_kg, emissions.energy_kwh, emissions.gpu_h, emissions.duration_s)


def study_costs(results: StudyResults) -> StudyCosts:
    """Return what a study cost so far."""
    finals, scoring = final_rows(results.study), results.study.scoring_cost
    known = [row.result for row in (*results.rows, *finals) if row.result is not None]
    answer = results.study.answer
    return StudyCosts(
        trials=tuple(row.cost for row in results.rows if row.cost.co2eq_kg is not None),
        finals=tuple(row.cost for row in finals if row.cost.co2eq_kg is not None),
        scoring=scoring,
        emissions=(*(each.emissions for each in known), *([scoring] if scoring is not None else [])),
        has_soup=answer is not None and answer.soup is not None,
    )


def costs(results: StudyResults) -> list[str]:
    """Return the lines on what a study cost: all in all, and beside what its trials were expected to cost."""
    return [total_cost(study_costs(results)), *quoted_line(results), *space_line(results)]


def total_cost(spent: StudyCosts) -> str:
    """Return what a study cost all in all, and how that was measured."""
    parts = ["all trials"]
    if spent.finals:
        parts.append(f"the finals ({_count(len(spent.finals), 'training')})")
    if spent.scoring is not None:
        soup = " and averaging models" if spent.has_soup else ""
        parts.append(f"scoring test{soup} ({duration(spent.scoring.duration_s)})")
    what = " and of ".join(filter(None, (", of ".join(parts[:-1]), parts[-1])))
    words, n_all = [], len(spent.all)
    for figure in FIGURES:
        known = [value for cost in spent.all if (value := figure.read(cost)) is not None]
        if known:
            of = "" if figure.header == "GPU h" or len(known) == n_all else f" ({len(known)} of {n_all})"
            words.append(f"{figure.total(sum(known))}{of}")
    note = energy_note(spent.emissions)
    return f"cost of {what}: {', '.join(words) or 'not known'}{f' ({note})' if note else ''}"


def energy_note(emissions: Iterable[Emissions]) -> str:
    """Return whose energy was counted, how it was obtained, and which electricity was assumed; empty without any."""
    measured = [each for each in emissions if each.energy_kwh > 0]
    if not measured:
        return ""
    remarks = {remark for each in measured for remark in each.unmeasured}
    shared = ", shared out among workers" if any(remark.startswith(SHARED) for remark in remarks) else ""
    how = "estimated" if is_cpu_estimated(remarks) else "not measured" if NO_CPU in remarks else "measured"
    countries = ", ".join(dict.fromkeys(each.country for each in measured))
    return f"the machine's energy{shared}, CPU power {how}; electricity: {countries}"


@dataclass(frozen=True)
class Quoted:
    """One figure of a quote beside what it came to.

    Attributes:
        name: what it is, with its unit.
        quoted: what was expected; None where the quote has none.
        actual: what it is so far; None where that is not known.
        note: what the figure leaves out, or how it was obtained; may be empty.
    """

    name: str
    quoted: float | None
    actual: float | None
    note: str


def quote_and_actual(results: StudyResults) -> list[Quoted]:
    """Return what a study was quoted beside what it came to so far; none of a study that keeps no quote.

    Neither finals nor scoring test are part of a quote, nor of what is compared with it.
    """
    quote = results.study.quote
    return list(_compared(results, quote)) if quote is not None else []


def _compared(results: StudyResults, quote: Mapping[str, Any]) -> Iterator[Quoted]:
    spent, workers = study_costs(results).trials, int(quote["workers"])
    by = f"of {_count(workers, 'worker')}, without pauses"
    done = [row.result for row in results.rows if row.result is not None]
    ram = max((each.peak_ram_gib for each in done if each.peak_ram_gib is not None), default=None)
    gpu = max((each.peak_memory_gib for each in done if each.peak_memory_gib is not None), default=None)
    at_once = min(workers, quote["n_trials"])
    yield Quoted("trials", quote["n_trials"], len(spent), "whose cost is known")
    yield Quoted("hours", quote["pruned_seconds"] / 3600, _sum(spent, "duration_s", 3600 * workers), by)
    yield Quoted("energy, kWh", quote["energy_kwh"], _sum(spent, "energy_kwh"), energy_note(_of(results)))
    yield Quoted("CO2 equivalent, kg", quote["co2eq_kg"], _sum(spent, "co2eq_kg"), "")
    disk = _size(results.study.folder) / GIB
    yield Quoted("disk, GiB", _gib(quote.get("disk_bytes")), disk, "at most; now, in the study's folder")
    note = f"at most, of {_count(at_once, 'worker')}"
    yield Quoted("memory, GiB", _gib(quote.get("ram_bytes")), None if ram is None else ram * at_once, note)
    if quote.get("gpu_gib") is not None or gpu is not None:
        yield Quoted("GPU memory of a worker, GiB", quote.get("gpu_gib"), gpu, "at most")


def _gib(size: float | None) -> float | None:
    return None if size is None else size / GIB


def _of(results: StudyResults) -> list[Emissions]:
    return [row.result.emissions for row in results.rows if row.result is not None]


def _sum(costs: Sequence[Cost], name: str, unit: float = 1.0) -> float | None:
    known = [value for cost in costs if (value := getattr(cost, name)) is not None]
    return sum(known) / unit if known else None


def _size(folder: Path) -> int:
    """Return the size of all files in a folder, in bytes; those that are deleted meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def quoted_line(results: StudyResults) -> Iterator[str]:
    """Yield what a study's trials were expected to cost, beside what those so far cost; nothing without a quote.

    Hours are those of its workers, without pauses and whatever the number of workers has been.
    """
    if (quote := results.study.quote) is None:
        return
    workers, spent = quote["workers"], study_costs(results).trials
    expected = [Cost(quote["co2eq_kg"], quote["energy_kwh"], None, quote["pruned_seconds"] * workers)]
    quoted = f"quoted for {_count(quote['n_trials'], 'trial')} by {_count(workers, 'worker')}"
    yield (
        f"{quoted}: {_hours_and_energy(expected, workers)}; "
        f"spent on {_count(len(spent), 'trial')}: {_hours_and_energy(spent, workers)}"
    )


def space_line(results: StudyResults) -> Iterator[str]:
    """Yield how much disk and memory a study was quoted, beside what is known of it; nothing without a quote."""
    compared = [each for each in quote_and_actual(results) if each.name.endswith("GiB") and each.quoted is not None]
    words = (f"{each.name.removesuffix(', GiB')} {each.quoted:.2g} GiB, {_actual(each)}" for each in compared)
    if compared:
        yield f"quoted at most: {'; '.join(words)}"


def _actual(figure: Quoted) -> str:
    if figure.actual is None:
        return "not known what it was"
    return f"{figure.actual:.2g} GiB {'in its folder now' if figure.name.startswith('disk') else 'in fact'}"


def _count(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _hours_and_energy(costs: Sequence[Cost], workers: int) -> str:
    hours, *figures = FIGURES[:3]
    sums = {figure.header: sum(figure.read(cost) or 0.0 for cost in costs) for figure in FIGURES[:3]}
    return ", ".join([hours.total(sums[hours.header] / workers), *(each.total(sums[each.header]) for each in figures)])
