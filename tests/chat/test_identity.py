"""Which weights answer: revisions, fingerprints from log-probabilities, and what is refused."""

from __future__ import annotations

import pytest

from gra_train.chat.identity import distance
from gra_train.chat.pool import open_pool
from gra_train.errors import UserError
from gra_train.schema import Model

from .test_faults import request


def fingerprint(url: str, ledger, **options) -> str:
    with open_pool([Model(**{"name": "m", "url": url, "served_name": "plain", **options})], ledger=ledger) as pool:
        return pool.models["m"].fingerprint


def test_the_fingerprint_is_taken_where_there_is_no_revision(stub, tmp_path):
    stub.set(weights="A")
    first = fingerprint(stub.url, tmp_path)
    stub.set(noise=0.1)  # other hardware
    assert first == fingerprint(stub.url, tmp_path)
    assert first != fingerprint(stub.url, tmp_path, served_name="other")
    assert all(b"127.0.0.1" not in file.read_bytes() for file in (tmp_path / "probes").iterdir())


@pytest.mark.parametrize("revision", ["", "v1"])
def test_other_weights_under_the_same_name_are_refused(stub, start_server, tmp_path, revision):
    stub.set(owner="vllm", weights="A")
    first = fingerprint(stub.url, tmp_path, revision=revision)
    stub.set(weights="B")
    with pytest.raises(UserError, match="weights behind 'plain' are not those that answered"):
        fingerprint(stub.url, tmp_path, revision=revision)
    assert fingerprint(stub.url, tmp_path, revision="v2") != first
    if revision:
        return
    other = start_server()  # two endpoints that do not hold the same
    other.set(weights="A")
    with pytest.raises(UserError, match="weights behind 'plain' are not those that answered"):
        fingerprint(f"{other.url},{stub.url}", tmp_path / "new")


def test_neither_revision_nor_log_probabilities(server, tmp_path):
    with pytest.raises(UserError, match="revision is required behind a server that gives no log-probabilities"):
        fingerprint(server, tmp_path)
    assert fingerprint(server, tmp_path, revision="a") != fingerprint(server, tmp_path, revision="b")
    assert not (tmp_path / "probes").exists()


def test_a_damaged_probe_is_said(stub, tmp_path):
    stub.set(weights="A")
    fingerprint(stub.url, tmp_path)
    (file,) = (tmp_path / "probes").iterdir()
    file.write_text('{"probe": [1]}')
    with pytest.raises(UserError, match="is damaged: delete it"):
        fingerprint(stub.url, tmp_path)


def test_a_name_that_the_server_does_not_serve(stub, tmp_path):
    stub.set(owner="vllm")
    with pytest.raises(UserError, match=r"does not serve 'plan'\. Did you mean 'plain'.*It serves: plain, able"):
        fingerprint(stub.url, tmp_path, served_name="plan", revision="r")


def test_changed_weights_do_not_answer_from_the_ledger(server, tmp_path):
    async def story(ask):
        return (await ask(("m", request())))[0].text

    for computed, revision in ((1, "a"), (1, "b"), (0, "a")):
        model = Model(name="m", url=server, served_name="plain", revision=revision)
        with open_pool([model], ledger=tmp_path) as pool:
            pool.run([story])
            assert pool.usage()["total"]["computed"] == computed


def test_distance():
    a = [{"x": -0.1, "y": -3.0}, {"z": -0.2, "w": -2.0}]
    assert distance(a, a) == 0
    assert distance(a, [{"x": -0.1, "y": -3.1}, *a[1:]]) == pytest.approx(0.025)
    assert distance(a, [{"x": -3.0, "y": -0.1}, {"q": 0.0}]) == pytest.approx(2.9)  # they part: the rest says nothing
    assert distance(a, [{"x": -0.1, "v": -5.0}]) == pytest.approx(4 / 3)  # not listed: at most the least listed
    assert distance(a, []) == float("inf")
