"""Processes killed from outside at seeded random moments: the client, its servers, by SIGKILL and by SIGTERM.

Each time the rerun ends with the data of an undisturbed run, and nothing that was answered and recorded is asked again.
"""

from __future__ import annotations

import random
import signal
import time

import pytest

from .conftest import MODELS, WINDOW, Server, lost_in_flight, wait_for

pytestmark = pytest.mark.faults
SEED = 20260511
IN_FLIGHT = MODELS * WINDOW
"""Calls at a time. As many are cut, and perhaps asked for again, at a kill and at the end of each of the two rounds."""


@pytest.mark.slow
def test_kill_9_of_the_client_at_a_quarter_half_and_three_quarters(server, client, calm):
    rng, run = random.Random(SEED), client(server.url)
    server.control(latency=0.2)
    lost, may_be_sent_again = 0, 0
    for share in (0.25, 0.5, 0.75):
        run.start()
        wait_for(server, share * calm["calls"], run)
        time.sleep(delay := rng.uniform(0, 0.15))
        assert run.running()
        run.kill()
        in_flight = lost_in_flight(server, run)
        print(f"seed {SEED}: killed {delay:.3f} s after {share:.0%} of {calm['calls']} calls, {in_flight} in flight")
        assert 0 <= in_flight <= lost + 2 * IN_FLIGHT
        lost, may_be_sent_again = in_flight, may_be_sent_again + in_flight
    run.complete()
    stats = server.stats()
    assert run.results() == calm["results"]
    assert stats["again"] <= stats["received"] - stats["requests"] <= may_be_sent_again


@pytest.mark.slow
def test_kill_9_of_one_of_two_servers(tmp_path, server, client, calm):
    rng, other = random.Random(SEED + 1), Server(tmp_path, "other")
    try:
        for one in (server, other):
            one.control(latency=0.2)
        run = client(f"{server.url},{other.url}")
        run.start()
        wait_for(server, 0.15 * calm["calls"], run)
        time.sleep(delay := rng.uniform(0, 0.15))
        before = other.stats()
        other.kill()
        print(f"seed {SEED + 1}: one of two servers killed after {delay:.3f} s, {before['answered']} answers given")
        code, said = run.end()
        assert code == 0, said
        assert run.results() == calm["results"]
        assert before["answered"] > 0
        assert server.stats()["again"] == 0
    finally:
        other.kill()


@pytest.mark.slow
def test_kill_9_of_the_only_server(server, client, calm):
    rng, run = random.Random(SEED + 2), client(server.url, give_up_s=2.0, connect_timeout_s=1.0)
    server.control(latency=0.2)
    run.start()
    wait_for(server, 0.4 * calm["calls"], run)
    time.sleep(delay := rng.uniform(0, 0.15))
    before = server.stats()
    server.kill()
    print(f"seed {SEED + 2}: the only server killed after {delay:.3f} s, {before['answered']} answers given")
    code, said = run.end()
    assert code == 1, said
    assert server.url in said, "it does not say which"
    assert "failed" in run.statuses().values()
    kept = run.recorded()
    assert kept >= before["answered"] - IN_FLIGHT
    server.start()
    server.control(latency=0.01)
    run.complete()
    assert run.results() == calm["results"]
    assert server.stats()["received"] <= run.recorded() - kept + 2 * IN_FLIGHT, "what was recorded is asked for again"


@pytest.mark.slow
def test_sigterm(server, client, calm):
    rng, run = random.Random(SEED + 3), client(server.url)
    server.control(latency=0.2)
    run.start()
    wait_for(server, 0.4 * calm["calls"], run)
    time.sleep(delay := rng.uniform(0, 0.15))
    assert run.process
    run.process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    code, said = run.end()
    print(
        f"seed {SEED + 3}: SIGTERM {delay:.3f} s after 40% of the calls; ended {time.monotonic() - began:.1f} s later"
    )
    assert code == 75, said
    assert "stopped" in run.statuses().values()
    assert lost_in_flight(server, run) <= 2 * IN_FLIGHT
    run.complete()
    assert run.results() == calm["results"]
    assert server.stats()["again"] <= IN_FLIGHT
