"""Several finished comparisons, which differ in their seed, as one table.

The intervals are over seeds, *given* what the seeds share: the base student, the test questions, and usually the pool.
Differences are also shown with the questions resampled (see statistics.paired_difference); a claim needs both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gra_train.errors import UserError
from gra_train.evaluation.significance import detectable_over_seeds, holm
from gra_train.evaluation.statistics import Answers, Estimate, over_seeds, paired_difference
from gra_train.reporting.claims import FAILS, Claim, corrected, value_of, values, verdict
from gra_train.reporting.finished import Finished
from gra_train.reporting.flags import COUNTED, LEGEND, flags, is_marked, single, together
from gra_train.reporting.recipe import Miniature
from gra_train.reporting.reports import STEPS
from gra_train.reporting.table import AVERAGE, REVIEWERS, columns, estimate

SHARED = "the pool's models, the base student and the test questions"


def aggregate(found: Sequence[Finished], recipe: Miniature, *, shared: str = SHARED) -> dict[str, Any]:
    """One table of finished comparisons, those of the same seed side by side, ordered by seed.

    recipe: rows, baseline and claims. shared: what the seeds have in common, in words, for the note below the table.

    {seeds, baseline, confidence, tasks, rows: [{label, baseline, data_correct, scores: {task: estimate}, counts: {task:
    of all seeds}, marked: [task], flags, per_seed, measures, difference, pooled}], steps: [{step, rows, correct}],
    claims: [{text, ours, theirs, times, measure, tolerance, difference, pooled, detectable, p, verdict, seeds_for}],
    notes}. A row that a seed lacks is missing.
    Raises UserError for what cannot be put together.
    """
    if not found:
        raise UserError("no finished comparison to aggregate")
    tables = _by_seed(found)
    first = tables[0]
    for table in tables[1:]:
        for key in ("tasks", "reviewers"):
            if table[key] != first[key]:
                raise UserError(f"these comparisons differ in their {key}: {first[key]} and {table[key]}")
    baseline = recipe.baseline or first["baseline"]
    with ThreadPoolExecutor() as threads:  # resampling lets go of the interpreter
        rows = list(
            threads.map(lambda one: _row(one, recipe.baselines.get(one, baseline), recipe, tables), recipe.rows)
        )
        claims = list(threads.map(lambda one: _claim(one, tables), recipe.claims))
    result = {key: first[key] for key in ("confidence", "tasks", "reviewers")}
    result |= {"seeds": [table["seed"] for table in tables], "baseline": baseline, "rows": rows}
    result["steps"] = _steps(tables) if recipe.steps else []
    result["claims"] = _decided(claims, first["confidence"])
    result["notes"] = _notes(result, recipe, shared)
    return result


def _by_seed(found: Sequence[Finished]) -> list[dict[str, Any]]:
    """One table for each seed: the rows, answers and measures of its comparisons together, each label once."""
    tables: dict[int, dict[str, Any]] = {}
    names: set[tuple[str, int]] = set()
    for one in sorted(found, key=lambda f: f.seed):
        name = one.table["name"]
        if (name, one.seed) in names:
            raise UserError(f"two comparisons of {name} have the same seed ({one.seed}): give one for each seed")
        names.add((name, one.seed))
        table = tables.setdefault(one.seed, one.table | {"rows": [], "sheets": {}, "measures": {}})
        if (ours := table["tasks"]) != (theirs := one.table["tasks"]):
            raise UserError(f"comparisons of seed {one.seed} differ in their tasks: {ours} and {theirs}")
        known = {row["label"] for row in table["rows"]}
        table["rows"] = [*table["rows"], *(row for row in one.table["rows"] if row["label"] not in known)]
        table["sheets"] = {**one.sheets, **table["sheets"]}
        table["measures"] = {**one.table["measures"], **table["measures"]}
        table["funnel"] = table.get("funnel") or one.table.get("funnel")
    return [tables[seed] for seed in sorted(tables)]


def _row(label: str, baseline: str, recipe: Miniature, tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first, confidence = tables[0], tables[0]["confidence"]
    entries = [next((row for row in table["rows"] if row["label"] == label), None) for table in tables]
    scored = [entry["scores"] for entry in entries if entry and entry["scores"]]
    complete = len(scored) == len(tables)
    scores = {
        task: _share([one[task]["score"] for one in scored], confidence)
        for task in columns(first)
        if complete and all(task in one for one in scored)
    }
    asked = {task: [one[task] for one in scored] for task in scores}
    against = None if label == baseline else _difference(label, baseline, tables)
    return {
        "label": label,
        "baseline": baseline,
        "data_correct": _over([value_of("data", label, table) for table in tables], confidence, share=True),
        "scores": scores,
        "counts": {task: together(each) for task, each in asked.items()},
        "marked": [task for task in scores if any(is_marked(one, task) for one in scored)],
        "flags": _flags(entries, first["tasks"]),
        "per_seed": [one[AVERAGE]["score"] for one in scored if AVERAGE in one],
        "measures": {
            measure.name: _over([value_of(measure.name, label, table) for table in tables], confidence)
            for measure in recipe.measures
        },
        "difference": estimate(against[0]) if against else None,
        "pooled": estimate(against[1]) if against else None,
    }


def _flags(entries: Sequence[Mapping[str, Any] | None], tasks: Sequence[str]) -> list[str]:
    """What is to be known of a row, over its seeds: the counts of every task that is flagged in one of them."""
    known = [entry for entry in entries if entry]
    found = []
    for task in tasks:
        each = [entry["scores"][task] for entry in known if task in (entry["scores"] or {})]
        seeds, total = sum(is_marked({task: one}, task) for one in each), together(each)
        if seeds:
            said = ", ".join(f"{total[what]} {name}" for what, name in COUNTED.items() if total[what])
            found.append(f"{task}: {said} of {total['n']} (flagged in {seeds} of {len(each)} seeds)")
    leaks = sum(bool(flags({}, (entry["data"] or {}).get("overlap", 0))) for entry in known)
    return [*found, f"training rows state a test question in {leaks} of {len(known)} seeds"] if leaks else found


def _over(found: Sequence[float | None], confidence: float, *, share: bool = False) -> dict[str, float] | None:
    """A value over seeds; None if a seed lacks it."""
    known = [value for value in found if value is not None]
    if not known or len(known) < len(found):
        return None
    return _share(known, confidence) if share else estimate(over_seeds(known, confidence))


def _share(found: Sequence[float], confidence: float) -> dict[str, float]:
    """A share over seeds; what Student's t puts outside 0 to 1 is cut off."""
    over = over_seeds(found, confidence)
    return estimate(Estimate(over.value, max(over.low, 0.0), min(over.high, 1.0)))


def _difference(
    ours: str, theirs: str, tables: Sequence[dict[str, Any]]
) -> tuple[Estimate, Estimate, list[float]] | None:
    """(over seeds, over seeds and questions, one per seed) of the difference of averages; None if a seed lacks one."""
    tasks = set(tables[0]["tasks"])
    pairs: list[tuple[Answers, Answers]] = [
        (table["sheets"].get(ours, {}), table["sheets"].get(theirs, {})) for table in tables
    ]
    if any(set(a) != tasks or set(b) != tasks for a, b in pairs):
        return None
    confidence, resamples = tables[0]["confidence"], tables[0]["resamples"]
    each = [paired_difference([a], [b], resamples=1).value for a, b in pairs]
    pooled = paired_difference([a for a, _ in pairs], [b for _, b in pairs], resamples=resamples, confidence=confidence)
    return over_seeds(each, confidence), pooled, each


def _decided(found: Sequence[dict[str, Any]], confidence: float) -> list[dict[str, Any]]:
    """The claims of a table with p and verdict corrected over all of them (Holm)."""
    after = holm({i: one["p"] for i, one in enumerate(found) if one["p"] is not None})
    return [
        one | {"p": after.get(i), "verdict": corrected(one["verdict"], after.get(i), confidence)}
        for i, one in enumerate(found)
    ]


def _claim(claim: Claim, tables: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of a claim alone: its verdict by intervals, and the uncorrected p of the test that this verdict rests on."""
    difference: Estimate | None = None
    pooled: Estimate | None = None
    each: list[float] = []
    if claim.measure == "accuracy":
        if found := _difference(claim.ours, claim.theirs, tables):
            difference, pooled, each = found
    else:
        pairs = [pair for pair in (values(claim, table) for table in tables) if pair]
        if len(pairs) == len(tables):
            each = [ours - theirs for ours, theirs in pairs]
            difference = over_seeds(each, tables[0]["confidence"])
    said = verdict(claim, [one for one in (difference, pooled) if one])
    limit = detectable_over_seeds(each, confidence=tables[0]["confidence"])
    return {
        "text": claim.text,
        "ours": claim.ours,
        "theirs": claim.theirs,
        "times": claim.times,
        "measure": claim.measure,
        "tolerance": claim.tolerance if claim.not_below else None,
        "difference": estimate(difference) if difference else None,
        "pooled": estimate(pooled) if pooled else None,
        "detectable": None if limit != limit else limit,
        "p": _p(each, claim.margin if said == FAILS else claim.bound),
        "verdict": said,
        "seeds_for": sum(value > claim.bound for value in each),
    }


def _p(each: Sequence[float], margin: float) -> float | None:
    """Two-sided p of Student's t over seeds that the difference is the margin; None where it cannot be had."""
    from scipy.stats import ttest_1samp

    if len(each) < 2 or max(each) - min(each) < 1e-12:
        return None
    return float(ttest_1samp(each, margin).pvalue)


def _steps(tables: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The funnel over seeds, where every seed has one: mean rows and mean share correct."""
    if not all(table["funnel"] for table in tables):
        return []
    found = []
    for step, title in STEPS.items():
        if not all(step in table["funnel"] for table in tables):
            continue
        counts = [table["funnel"][step] for table in tables]
        correct = _over([one.get("correct_share") for one in counts], tables[0]["confidence"], share=True)
        rows = sum(one["rows"] for one in counts) / len(counts)
        found.append({"step": title, "rows": rows, "correct": correct})
    return found


def _sizes(rows: Sequence[Mapping[str, Any]], seeds: int) -> str:
    """`math 30, coding 30`: the questions that a seed answers; a range where rows differ."""
    found: dict[str, set[float]] = {}
    for row in rows:
        for task, total in single(row["counts"]).items():
            found.setdefault(task.removeprefix("mini_"), set()).add(total["n"] / seeds)
    return ", ".join(f"{task} {'-'.join(f'{n:g}' for n in sorted({min(of), max(of)}))}" for task, of in found.items())


def _notes(result: dict[str, Any], recipe: Miniature, shared: str) -> list[str]:
    percent, seeds = f"{result['confidence']:.0%}", result["seeds"]
    said = [
        f"Means over seeds {', '.join(map(str, seeds))} with {percent} intervals over seeds (Student's t), "
        f"given what the seeds share: {shared}.",
        f"Differences: paired by seed and question; the second interval resamples the questions too ({percent}, "
        "bootstrap on two levels). A claim holds, or does not, only where both intervals say so and p is at most "
        f"{1 - result['confidence']:.2g}; p is that of the interval over seeds, corrected over the table's claims "
        "(Holm). Detectable: the smallest true difference (from what is tested) that as many seeds, differing as these "
        "do, would show four times in five, before correction.",
    ]
    if any(claim.not_below for claim in recipe.claims):
        said.append(
            "Not worse is tested as non-inferiority: it holds where the difference is shown to be above minus the "
            "margin in brackets, and does not where it is shown to be below zero and not above that."
        )
    if len(seeds) == 1:
        said[0] = f"One seed ({seeds[0]}): there are no intervals over seeds, and no claim is decided."
    if result["reviewers"] in REVIEWERS:
        said.append(REVIEWERS[result["reviewers"]])
    if sizes := _sizes(result["rows"], len(seeds)) if recipe.accuracy else "":
        said.append(f"Questions of each seed: {sizes}; counts are of all seeds and benchmarks together.")
    if recipe.accuracy and any(row["flags"] for row in result["rows"]):
        said.append(f"! flagged in at least one seed: {LEGEND.removeprefix('! ')}")
    return said
