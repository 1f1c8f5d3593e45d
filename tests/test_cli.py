"""The command line as a person meets it: speed of start-up, errors of one sentence, exit codes."""

import os
import resource
import subprocess
import sys
from contextlib import suppress

import pytest

from gra_train.cli import main
from gra_train.compose import checked, compose, conf_dir, groups, origins
from gra_train.describe import describe_config, describe_schema
from gra_train.errors import UserError


def gra_train(*words, **environment):
    """The finished command and its processor seconds (what other programs do meanwhile is not ours)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "gra_train.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | environment,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fastest(*words):
    """The best of three."""
    runs = [gra_train(*words) for _ in range(3)]
    return runs[0][0], min(seconds for _, seconds in runs)


def test_help_is_instant():
    done, seconds = fastest("--help")
    assert done.returncode == 0
    assert "gra-train run experiment=mini" in done.stdout
    assert seconds < 0.4


@pytest.mark.parametrize("words", [["config", "--schema"], ["config", "experiment=mini"]])
def test_a_reader_that_leaves_is_no_error(words):
    """`| head -1`"""
    with subprocess.Popen(
        [sys.executable, "-m", "gra_train.cli", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read().decode()
    assert (process.returncode, said) == (141, "")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["preview", "--help"], ["n=5", "annotate=200", "--html FILE"]),
        (["validate", "experiment=mini", "-h"], ["--offline", "from=RUN", "assume.NAME=VALUE"]),
        (["replay", "runs/nowhere", "--help"], ["T_mean=7:9:0.5", "committee=", "--fill", "out=FOLDER"]),
        (["run", "--help"], ["gra-train COMMAND --help"]),
    ],
)
def test_every_option_is_in_a_help(words, options, capsys):
    with suppress(SystemExit):
        main(words)
    said = capsys.readouterr().out
    assert all(option in said for option in options)


WRONG = [
    (["rum"], ["No command 'rum'", "'run'"]),
    (["run", "experiment=minni"], ["experiment=minni", "'mini'"]),
    (["run", "experimnt=mini"], ["experimnt", "'experiment'"]),
    (["run", "experiment=mini", "sft.lrr=1"], ["sft.lrr", "'sft.lr'"]),
    (["run", "experiment=mini", "sft.lr=fast"], ["sft.lr='fast'", "float"]),
    (["run", "experiment=mini", "synthesis.T_mean=12"], ["synthesis.T_mean=12", "<= 10"]),
    (["run", "experiment=mini", "sft.lr"], ["sft.lr", "NAME=VALUE"]),
    (["run"], ["no arms", "experiment=mini"]),
    (["run", "experiment=mini", "compare.baseline=sollo"], ["compare.baseline='sollo'"]),
    (["run", "experiment=mini", "+arms.x.data=grra"], ["arms.x.data='grra'", "'gra'"]),
    (["synthesize", "seeds=nowhere.jsonl", "pool=mini"], ["nowhere.jsonl", "does not exist"]),
    (
        ["run", "experiment=mini", "evaluation.engine=vllm", "evaluation.serve={python: /nowhere/python}"],
        ["serve.python='/nowhere/python' does not exist"],
    ),
]


@pytest.mark.parametrize(("words", "expected"), WRONG, ids=[" ".join(words) for words, _ in WRONG])
def test_wrong_input_ends_in_a_second_with_a_sentence(words, expected, tmp_path):
    done, seconds = gra_train(*words, f"runs_dir={tmp_path / 'runs'}")
    if seconds >= 1:
        done, seconds = fastest(*words, f"runs_dir={tmp_path / 'runs'}")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for word in expected:
        assert word in done.stderr
    assert seconds < 1
    assert not (tmp_path / "runs").exists()


def test_the_command_line_wins_over_the_experiment_and_debug():
    config = compose(["experiment=mini", "debug=tiny", "synthesis.target=5"])
    assert config.synthesis.target == 5
    assert config.sft.steps == 3
    assert config.pool.name == "mini"


def test_keys_of_ones_own_need_no_plus():
    config = compose(["experiment=mini", "arms.more.data=gold", "arms.gra.rows=5", "data.fields={instruction: q}"])
    assert config.arms["more"].data == "gold"
    assert config.arms["gra"].rows == 5
    assert config.arms["gra"].method == "collate"
    assert config.data.fields == {"instruction": "q"}
    assert "gold" not in compose(["experiment=mini", "~arms.gold"]).arms


def test_every_value_has_an_origin():
    found = origins(["experiment=mini", "sft.lr=1e-3"])
    assert found["sft.lr"] == "command line"
    assert found["pool.models"] == "conf/pool/mini.yaml"
    assert found["arms.gra.method"] == "conf/experiment/mini.yaml"
    assert found["collate.loss"] == "default"
    text = describe_config(["experiment=mini", "sft.lr=1e-3"])
    assert "sft.lr: 0.001" in text
    assert "# command line" in text


def test_the_schema_prints_every_setting_with_help():
    lines = describe_schema().splitlines()
    assert any(line.startswith("arms.NAME.with_seeds = true  (bool)  ") for line in lines)
    assert any(line.startswith("pool.models.N.served_name = ") for line in lines)
    assert any(line.startswith("synthesis.T_std = 1.5") and "sigma" in line for line in lines)
    without_help = [line for line in lines if len(line.split("  ")) < 3 or not line.split("  ")[-1].strip()]
    assert not without_help


@pytest.mark.parametrize("group", sorted(g for g in groups() if g not in ("experiment",) and "/" not in g))
def test_every_file_of_a_group_composes(group):
    for option in groups()[group]:
        compose([f"{group}={option}"] if group not in ("debug",) else ["experiment=mini", f"{group}={option}"])


@pytest.mark.parametrize("name", groups()["experiment"])
def test_every_experiment_composes_and_says_its_hardware(name):
    config = compose([f"experiment={name}"])
    if name != "mini" and not name.startswith("mini/"):
        assert "GPU" in config.resources.needs


def test_files_in_place_of_options(tmp_path):
    pool = tmp_path / "pool.yaml"
    pool.write_text("name: duo\nmodels:\n- {name: a, path: 'mini:wren'}\n- {name: b, path: 'mini:lark'}\n")
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text('{"instruction": "x", "response": "y"}\n')
    config = compose([f"pool={pool}", f"seeds={seeds}"])
    assert [model.path for model in config.pool.models] == ["mini:wren", "mini:lark"]
    assert config.seeds.path == str(seeds)
    over = compose(["experiment=gra/paper", f"seeds={seeds}"]).seeds
    assert (over.path, over.format, over.license) == (str(seeds), "auto", ""), (
        "of the experiment's seed set nothing is left"
    )
    own = compose([f"data={seeds}", "student.path=mini:chick"])
    assert own.data.path == str(seeds)
    assert own.arms["own"].data == own.compare.baseline == "own"
    pool.write_text("just words")
    with pytest.raises(UserError, match="expected settings of a pool"):
        compose([f"pool={pool}"])


def test_conf_has_nothing_but_yaml_that_the_schema_knows():
    assert conf_dir().is_dir()
    with pytest.raises(UserError, match=r"sft\.nonsense"):
        checked({"sft": {"nonsense": 1}})
