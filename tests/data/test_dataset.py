"""The dataset stage: what an arm trains on, and its statistics."""

import json

import pytest

from gra_train.data.dataset import dataset
from gra_train.errors import UserError
from gra_train.mini.data import problems
from gra_train.records import Sample, read_samples, write_samples
from gra_train.schema import DataFile
from gra_train.stages import DatasetStage


def samples(split, n, seed, name, *, wrong=0):
    rows = problems(split, n, seed)
    return [
        Sample(f"{name}-{i}", p.instruction, "no #### 0" if i < wrong else p.response, p.domain)
        for i, p in enumerate(rows)
    ]


@pytest.fixture
def folders(tmp_path):
    def write(**sets):
        inputs = {}
        for name, rows in sets.items():
            (tmp_path / name).mkdir()
            write_samples(tmp_path / name, rows)
            inputs[name] = tmp_path / name
        (tmp_path / "out").mkdir(exist_ok=True)
        return inputs, tmp_path / "out"

    return write


def run(folders, *, path="", rows=None, checker="mini", **sets):
    inputs, out = folders(**sets)
    dataset(DatasetStage(0, DataFile(path=path), rows, checker), inputs, out)
    return read_samples(out), json.loads((out / "statistics.json").read_text())


def test_seeds_then_rows_of_the_source(folders):
    seeds, source = samples("train", 10, 0, "seed"), samples("train", 40, 1, "r", wrong=30)
    made, statistics = run(folders, rows=20, seeds=seeds, source=source)
    assert made[:10] == seeds
    assert len(made) == 30
    chosen = [s.id for s in made[10:]]
    assert chosen == sorted(chosen, key=lambda i: int(i.split("-")[1]))  # at random, in their order
    assert chosen != [s.id for s in source[:20]]
    assert statistics["rows"] == 30
    assert statistics["seeds"]["correct_share"] == 1.0
    right = sum("no ####" not in s.response for s in made[10:])
    assert statistics["source"] == {
        "rows": 20, "domains": statistics["source"]["domains"], "correct": right, "correct_share": right / 20,
    }  # fmt: skip
    assert sum(statistics["source"]["domains"].values()) == 20


def test_seeds_alone_and_source_alone(folders, tmp_path):
    made, statistics = run(folders, seeds=samples("train", 5, 0, "seed"))
    assert (len(made), statistics["source"]["rows"]) == (5, 0)


def test_test_problems_and_seeds_are_removed_and_counted(folders):
    seeds = samples("train", 6, 0, "seed")
    source = [
        *samples("train", 10, 1, "new"),
        *samples("test", 4, 1, "test"),
        *samples("validation", 3, 1, "val"),
        *seeds[:2],
    ]
    made, statistics = run(folders, seeds=seeds, source=source)
    assert statistics["removed"] == {"seeds": 2, "held_out": 7}
    assert [s.id.split("-")[0] for s in made] == ["seed"] * 6 + ["new"] * 10


def test_an_existing_file_without_a_checker(folders, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"instruction": f"i{n}", "response": f"r{n}"}) + "\n" for n in range(9)))
    made, statistics = run(folders, path=str(path), rows=4, checker="none")
    assert len(made) == 4
    assert "correct" not in statistics["source"]


def test_fresh_gold_rows(folders):
    seeds = samples("train", 30, 0, "seed")
    made, statistics = run(folders, path="mini:gold", rows=50, seeds=seeds)
    assert len(made) == 80
    assert statistics["source"]["correct_share"] == 1.0
    assert len({s.instruction for s in made}) == 80


def test_fewer_rows_than_asked_for_is_said(folders, caplog):
    made, statistics = run(folders, rows=20, source=samples("train", 5, 1, "r"))
    assert (len(made), statistics["asked_for"]) == (5, 20)
    assert "20 rows were asked for and 5 are there" in caplog.text


def test_nothing_to_train_on(folders):
    with pytest.raises(UserError, match="has no rows"):
        run(folders, source=samples("test", 5, 1, "r"))


def test_the_same_bytes_again(folders):
    sets = {"seeds": samples("train", 10, 0, "seed"), "source": samples("train", 40, 1, "r")}
    inputs, out = folders(**sets)
    contents = []
    for _ in range(2):
        dataset(DatasetStage(3, DataFile(), 20, "mini"), inputs, out)
        contents.append([(p.name, p.read_bytes()) for p in sorted(out.iterdir())])
    assert contents[0] == contents[1]
    assert [name for name, _ in contents[0]] == ["data.jsonl", "statistics.json"]
