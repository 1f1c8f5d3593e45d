"""A tiny random Llama with a byte-level tokenizer, made on the spot: real weights, real chat template, no download."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE
)


def make_tokenizer(template: str | None = TEMPLATE):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|end|>", "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(["Ann has 3 apples. Bob buys 12 more pears and gives 7 of them to Jon."] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|end|>", pad_token="<|pad|>", chat_template=template, model_max_length=256
    )


def make_model(folder: Path, *, seed: int = 0, template: str | None = TEMPLATE, positions: int = 256) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=64,
        max_position_embeddings=positions,
        initializer_range=0.3,
        eos_token_id=0,
        pad_token_id=1,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny", seed=0)


@pytest.fixture(scope="session")
def other_dir(tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "other", seed=1)


@pytest.fixture(scope="session")
def local(model_dir):
    from gra_train.chat.local import LocalModel
    from gra_train.schema import Model

    return LocalModel(Model(name="tiny", path=str(model_dir)), device="cpu")


class Stub:
    """A stub server in its own process (see stub_server.py)."""

    def __init__(self, file: Path, *options: str) -> None:
        file.unlink(missing_ok=True)
        self.process = subprocess.Popen([sys.executable, Path(__file__).parent / "stub_server.py", file, *options])
        deadline = time.monotonic() + 30
        while not file.exists():
            assert self.process.poll() is None, "the stub server died"
            assert time.monotonic() < deadline, "the stub server did not start"
            time.sleep(0.02)
        self.port = file.read_text()
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def set(self, **values: object) -> None:
        query = urllib.parse.urlencode(values)
        urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/set?{query}").close()

    def stats(self) -> dict:
        with urllib.request.urlopen(self.url.removesuffix("/v1") + "/stats") as response:
            return json.load(response)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="session")
def _stub(tmp_path_factory):
    stub = Stub(tmp_path_factory.mktemp("stub") / "port")
    yield stub
    stub.kill()


@pytest.fixture
def server(_stub):
    """Base URL of a stub server that has not been asked anything yet."""
    urllib.request.urlopen(_stub.url.removesuffix("/v1") + "/reset").close()
    return _stub.url


@pytest.fixture
def stub(_stub, server):
    """The stub server of `server`."""
    return _stub


@pytest.fixture
def start_server(tmp_path):
    """(*options) -> a further stub server, killed at the end."""
    started: list[Stub] = []

    def start(*options: str) -> Stub:
        started.append(Stub(tmp_path / f"port{len(started)}", *options))
        return started[-1]

    yield start
    for stub in started:
        stub.kill()


@pytest.fixture
def stats(_stub, server):
    """() -> what the stub server received."""
    return _stub.stats
