"""Several endpoints of one model: load, health, the circuit breaker, and the concurrency that is found."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import pairwise

import pytest

from gra_train.chat import calling, endpoints
from gra_train.chat.endpoints import Endpoint, Endpoints
from gra_train.chat.limits import Limit
from gra_train.chat.pool import open_pool
from gra_train.chat.protocol import ModelError
from gra_train.errors import UserError
from gra_train.schema import Model

from .test_faults import request


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(calling, "_FIRST_WAIT_S", 0.02)
    monkeypatch.setattr(endpoints, "_FIRST_OUT_S", 0.02)
    monkeypatch.setattr(endpoints, "_LONGEST_OUT_S", 0.2)


def story(seed):
    async def run(ask):
        return (await ask(("m", request(seed=seed))))[0].text

    return run


def test_calls_go_to_the_least_loaded(server, start_server, tmp_path):
    slow, quick = start_server("--delay", "0.5"), start_server()
    model = Model(name="m", url=f"{slow.url},{quick.url}", served_name="plain", revision="r", max_concurrency=4)
    with open_pool([model], ledger=tmp_path) as pool:
        pool.run([story(i) for i in range(100)])
        of_slow, of_quick = pool.models["m"].report()
    assert of_slow["answered"] + of_quick["answered"] == 100
    assert 2 * of_slow["answered"] < of_quick["answered"]
    assert slow.stats()["most_active"] <= 4


def test_a_server_that_is_killed_is_taken_out_and_comes_back(server, start_server, tmp_path):
    one, two = start_server("--delay", "0.02"), start_server("--delay", "0.02")
    model = Model(name="m", url=f"{one.url},{two.url}", served_name="plain", revision="r", max_concurrency=8)
    with open_pool([model], ledger=tmp_path) as pool:
        done, returned = 0, None
        for done, _ in enumerate(pool.stream(story(i) for i in range(3000))):
            if done == 50:
                one.kill()
            if done == 200:
                assert [row["out"] for row in pool.models["m"].report()] == [True, False]
                returned = start_server("--port", one.port)
            if returned and returned.stats()["requests"]:
                break
        assert 200 < done < 2999
        report = pool.models["m"].report()
    assert 0 < report[0]["failed"] < 40  # those in flight, and a look now and then


def test_an_endpoint_that_is_missing_from_the_start_is_done_without(server, tmp_path, caplog):
    model = Model(name="m", url=f"http://127.0.0.1:9/v1,{server}", served_name="plain", revision="r")
    with open_pool([model], ledger=tmp_path) as pool:
        assert len(pool.run([story(i) for i in range(20)])) == 20
    assert "127.0.0.1:9/v1 does not answer" in caplog.text


@pytest.mark.parametrize("late", [True, False])
def test_an_endpoint_that_comes_up_with_other_weights_is_taken_out(start_server, tmp_path, late, caplog):
    """Missing at the start, or gone and back: it is asked who it is before its first answer is believed."""
    ours = ("--delay", "0.02", "--owner", "vllm", "--weights", "A")
    one, two = start_server(*ours), start_server(*ours)
    if late:
        two.kill()
    model = Model(name="m", url=f"{one.url},{two.url}", served_name="plain", max_concurrency=8)
    with open_pool([model], ledger=tmp_path) as pool:
        served, other = pool.models["m"], None
        for done, _ in enumerate(pool.stream(story(i) for i in range(3000))):
            if done == 20:
                two.kill()
            if not other and served.endpoints.all[1].out:
                other = start_server("--port", two.port, "--owner", "vllm", "--weights", "B")
            if served.endpoints.all[1].expelled:
                break
        assert other
        assert done < 2999
        assert not other.stats()["requests"]
        pool.run([story(i) for i in range(3000, 3020)])
        assert not other.stats()["requests"]
        assert [row["out"] for row in served.report()] == [False, True]
    assert "taken out for good" in caplog.text
    assert "the weights behind 'plain' are not those that answered" in caplog.text


@pytest.mark.parametrize("weights", ["A", "B"])
def test_the_only_endpoint_goes_on_with_the_same_weights_alone(start_server, tmp_path, weights):
    one = start_server("--owner", "vllm", "--weights", "A")
    model = Model(name="m", url=one.url, served_name="plain")
    with open_pool([model], ledger=tmp_path) as pool:
        results = pool.stream(story(i) for i in range(300))
        seen = [next(results) for _ in range(50)]
        one.kill()
        back = start_server("--port", one.port, "--owner", "vllm", "--weights", weights)
        if weights == "A":
            assert len(dict([*seen, *results])) == 300
            return
        with pytest.raises(ModelError, match=r"every endpoint was taken out .*weights behind 'plain'"):
            list(results)
        assert not back.stats()["requests"]


def test_when_all_are_dead_the_run_ends_and_says_which(start_server, tmp_path):
    one, two = start_server(), start_server()
    model = Model(name="m", url=f"{one.url},{two.url}", served_name="plain", revision="r", give_up_s=0.5)
    with open_pool([model], ledger=tmp_path) as pool:
        results = pool.stream(story(i) for i in range(10_000))
        for _ in range(100):
            next(results)
        one.kill()
        two.kill()
        killed = time.monotonic()
        with pytest.raises(ModelError, match=f"'m': none of its endpoints.*{one.url}: .*{two.url}: .*onnect"):
            for _ in results:
                pass
        assert time.monotonic() - killed > 0.4
        kept = len(pool.ledger)
    with pytest.raises(UserError, match="no server answers"):
        open_pool([model], ledger=tmp_path)
    start_server("--port", one.port)
    with open_pool([model], ledger=tmp_path) as pool:  # goes on from there
        pool.run([story(i) for i in range(150)])
        assert pool.usage()["total"]["from_ledger"] >= min(kept, 100)


def test_an_outage_that_passes_costs_nothing(start_server, tmp_path):
    one = start_server()
    model = Model(name="m", url=one.url, served_name="plain", revision="r", retries=1, on_failed_call="stop")
    with open_pool([model], ledger=tmp_path) as pool:
        results = pool.stream(story(i) for i in range(300))
        seen = [next(results) for _ in range(50)]
        one.kill()
        threading.Timer(0.6, start_server, ("--port", one.port)).start()
        seen += results
    assert len(dict(seen)) == 300


def test_concurrency_is_found_from_429(start_server, tmp_path):
    model = Model(name="m", url=start_server().url, served_name="capacity8", revision="r", max_concurrency=0)
    with open_pool([model], ledger=tmp_path) as pool:
        texts = pool.run([story(i) for i in range(600)])
        (report,) = pool.models["m"].report()
    assert len(set(texts)) == 600
    assert 2 <= report["concurrency"] <= 16
    assert 0 < report["throttled"] < 150


def test_retry_after_pauses_the_endpoint_that_sent_it():
    async def run():
        both = Endpoints("m", ["a", "b"], max_concurrency=2, give_up_s=60)
        first = await both.take()
        first.note_throttle(0, time.monotonic(), "429", 0.3)
        both.give(first)
        others = [await both.take() for _ in range(2)]
        began = time.monotonic()
        third = await both.take()
        return first, others, third, time.monotonic() - began

    first, others, third, waited = asyncio.run(run())
    assert all(e is not first for e in others)
    assert third is first
    assert 0.25 < waited < 0.6


def test_a_broken_endpoint_that_says_429_is_busy_again_and_not_broken():
    one = Endpoint("a", 8)
    for _ in range(5):
        one.note_failure(1.0, "reset")
    assert one.out
    one.note_throttle(3.0, 3.1, "429", 0.0)  # else its breaker would let call after call through without a wait
    assert not one.out
    assert one.refusing


def test_a_place_in_the_queue_that_is_given_up_holds_no_slot():
    async def run():
        one = Endpoints("m", ["a"], max_concurrency=1, give_up_s=60)
        held = await one.take()
        waiting = [asyncio.ensure_future(one.take()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        one.give(held)  # to the second
        waiting[1].cancel()  # in the moment it is served
        return await asyncio.wait_for(waiting[2], 1)

    assert asyncio.run(run()).busy == 1


class Server:
    """What a limit meets: so many calls are computed side by side, the others wait."""

    def __init__(self, capacity: int, refuses: bool) -> None:
        self.capacity, self.refuses = capacity, refuses

    def rounds(self, limit: Limit, count: int) -> list[int]:
        now, sizes = 1.0, []
        for _ in range(count):
            busy = int(limit.value)
            seconds = 1.0 if self.refuses else max(1.0, busy / self.capacity)
            for i in range(busy):
                if self.refuses and i >= self.capacity:
                    limit.refused(started=now, now=now + 0.01)
                else:
                    limit.answered(started=now, now=now + seconds, tokens=100, busy=busy)
            now += seconds + 0.1
            sizes.append(busy)
        return sizes


@pytest.mark.parametrize(("capacity", "refuses"), [(100, True), (40, False), (5, True)])
def test_a_limit_finds_the_capacity(capacity, refuses):
    sizes = Server(capacity, refuses).rounds(Limit(0), 200)
    settled = sizes[50:]
    most = capacity * (1.1 if refuses else 5) + 1
    assert max(settled) <= most
    assert sum(settled) / len(settled) >= 0.6 * capacity


def test_a_limit_grows_where_nothing_holds_it_and_stays_where_it_is_set():
    sizes = Server(10_000, True).rounds(Limit(0), 60)
    assert all(a < b <= 1.4 * a for a, b in pairwise(sizes[:8]))
    assert sizes[-1] == 1024
    fixed = Limit(7)
    assert set(Server(5, True).rounds(fixed, 20)) == {7}
