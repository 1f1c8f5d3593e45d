"""Talking to language models: one protocol, in process or over HTTP, answered through a ledger."""
