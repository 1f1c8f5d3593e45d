"""How long answers take that are written already: reading, comparing, running programs. Needs the data sets.

    GRA_DATA_DIR=... python benchmarks/evaluation.py            # a table; --save writes evaluation.md
                                                                # exits with 1 where a bound is not held

Each answer is right or wrong in turn, worded as models do, so that nothing is decided by equality of texts alone: every
second formula is another question's, which math-verify has to find out.
"""

import argparse
import os
import resource
import sys
import time
from pathlib import Path

from gra_train.evaluation.benchmarks import asking
from gra_train.evaluation.sandbox import nests_work
from gra_train.evaluation.scoring import score
from gra_train.schema import Evaluation

LIMITS = {"gsm8k": 3.0, "math": 60.0, "mmlu": 10.0}
"""Seconds, on two cores."""


def answers(name, rows):
    golds = [row["gold"] for row in rows]
    given = [gold if i % 2 else golds[i - 1] for i, gold in enumerate(golds)]
    words = {
        "gsm8k": "First we add, then we take 3 away: 7 - 3 = 4. So the answer is ${}.",
        "math": "We compute $x = 3$ and then find that the answer is $\\boxed{{ {} }}$.",
        "mmlu": "Option A says otherwise, but the text rules it out.\nAnswer: ({})",
        "humaneval": "Here it is.\n\n```python\n{}\n```\nIt works as asked.",
        "mbpp": "```python\n{}\n```",
    }
    if name in ("humaneval", "mbpp"):
        given = [row.get("beginning", "") + "    " * ("beginning" in row) + row["gold"] for row in rows]
    return [words[name].format(one) for one in given]


def measure(name, protocol):
    evaluation = Evaluation(tasks=[name], protocol=protocol, program_seconds=30.0)
    started = time.perf_counter()
    rows, one = asking.questions(name, evaluation), asking.asked(name, evaluation)
    loaded = time.perf_counter() - started
    texts = answers(name, rows)
    before, started = cpu(), time.perf_counter()
    marks = score(one.how, rows, texts)
    took = time.perf_counter() - started
    return {
        "benchmark": name,
        "protocol": protocol,
        "answers": len(rows),
        "loading s": round(loaded, 2),
        "scoring s": round(took, 2),
        "CPU s": round(cpu() - before, 2),
        "per second": round(len(rows) / took),
        "correct": sum(mark.correct for mark in marks),
        "unparseable": sum(mark.extracted is None for mark in marks),
    }


def cpu():
    """Of this process and of the workers that have ended; a program in the sandbox is not counted."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in both)


def bounds(found):
    """(sentence, held) for each bound whose benchmark was measured: the slower of its protocols counts."""
    said = []
    for name, limit in LIMITS.items():
        if took := [row["scoring s"] for row in found if row["benchmark"] == name]:
            held = max(took) < limit
            verdict = "held" if held else "NOT HELD"
            said.append((f"{name}: {max(took):.2f} s, bound {limit:g} s: {verdict}", held))
    return said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["gsm8k", "mmlu", "math", "humaneval", "mbpp"])
    parser.add_argument("--save", action="store_true", help="write evaluation.md beside this file")
    given = parser.parse_args()
    if not os.environ.get("GRA_DATA_DIR"):
        sys.exit("GRA_DATA_DIR names no folder of data sets: nothing to measure.")
    found = [measure(name, protocol) for name in given.names for protocol in ("published", "robust")]
    lines = ["| " + " | ".join(found[0]) + " |", "|" + " --- |" * len(found[0])]
    lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in found]
    text = "\n".join(lines)
    checked = bounds(found)
    text += "\n\n" + "\n".join(f"- {sentence}" for sentence, _ in checked) if checked else ""
    print(text)
    if given.save:
        said = __doc__.partition("\n\n")[2].partition("\n\n")[2].strip()
        where = "guests of a nest" if nests_work() else "a sandbox of its own for each program"
        head = f"# Scoring answers\n\n{said}\n\n{os.cpu_count()} cores, shared with other work; programs: {where}.\n"
        (Path(__file__).parent / "evaluation.md").write_text(f"{head}\n{text}\n")
    sys.exit(not all(held for _, held in checked))


if __name__ == "__main__":
    main()
