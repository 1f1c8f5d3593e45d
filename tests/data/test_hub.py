"""Data sets of the Hub where the Hub is out of reach: known at once, not after half a minute for each."""

import logging
import socket
import time

import datasets.config
import pytest
from huggingface_hub import constants

from gra_train.data import hub
from gra_train.data.files import read_rows
from gra_train.errors import UserError
from gra_train.schema import DataFile


@pytest.fixture(autouse=True)
def a_hub_on_this_machine(monkeypatch):
    """Its port is free: nobody listens. A proxy would be believed."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    for module in (constants, datasets.config):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "getproxies", dict)
    hub.forget()
    yield port
    hub.forget()


def test_out_of_reach_it_is_told_once_and_the_cache_is_all_there_is(caplog):
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with hub.at_hand():
                assert constants.HF_HUB_OFFLINE
                assert datasets.config.HF_HUB_OFFLINE
            assert not constants.HF_HUB_OFFLINE, "it may come back"
    assert caplog.text.count("the Hub is out of reach (127.0.0.1: Connection refused)") == 1


def test_within_reach_nothing_changes(a_hub_on_this_machine):
    with socket.create_server(("127.0.0.1", a_hub_on_this_machine)), hub.at_hand():
        assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("proxies", [{"all": "socks5h://proxy:1"}, {"http": "http://proxy:3128", "no": "example.org"}])
def test_a_proxy_is_believed(monkeypatch, caplog, proxies):
    monkeypatch.setattr(hub, "getproxies", lambda: proxies)
    with hub.at_hand():
        assert not constants.HF_HUB_OFFLINE
    assert not caplog.text


@pytest.mark.parametrize("module", [constants, datasets.config])
def test_so_is_who_says_offline(monkeypatch, caplog, module):
    monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)
    with hub.at_hand():
        pass
    assert module.HF_HUB_OFFLINE
    assert not caplog.text


def test_a_name_that_is_looked_up_for_ever_is_waited_for_in_vain_once(monkeypatch):
    def look(*_, **__):
        time.sleep(5)
        raise TimeoutError

    monkeypatch.setattr(hub, "_PATIENCE_S", 0.2)
    monkeypatch.setattr(socket, "create_connection", look)
    started = time.monotonic()
    for _ in range(5):
        with hub.at_hand():
            assert constants.HF_HUB_OFFLINE
    assert time.monotonic() - started < 2


def test_a_data_set_that_is_not_in_the_cache_is_missing_at_once():
    started = time.monotonic()
    with pytest.raises(UserError, match=r"'nobody/nothing' is no file here.*the split and the network"):
        list(read_rows(DataFile(path="nobody/nothing")))
    assert time.monotonic() - started < 10
