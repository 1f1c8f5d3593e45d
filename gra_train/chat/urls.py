"""The addresses of a model's servers, and what must not be in them."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from gra_train.errors import UserError
from gra_train.schema import Model
from gra_train.settings import Section

_SECRET = re.compile(r"key|token|secret|passw|auth|sig(nature)?$|credential", re.IGNORECASE)


def base_urls(model: Model) -> list[str]:
    """The base URLs of a model, in order. Raises UserError for one that is no address, is given twice, or has a key or
    a password in it: addresses are written into run folders and messages."""
    urls = [url.strip().rstrip("/") for url in model.url.split(",") if url.strip()]
    for url in urls:
        if secret := _secret(url):
            raise UserError(
                f"model {model.name!r}: url= has {secret} in it, and addresses end up in run folders and messages. Put "
                "the key into an environment variable and name that in api_key_env=: it is sent as a bearer token."
            )
        if not url.startswith(("http://", "https://")):
            raise UserError(f"model {model.name!r}: url={url!r} should look like http://localhost:8000/v1")
        if urls.count(url) > 1:
            raise UserError(f"model {model.name!r}: url names {url} twice")
    return urls


def check_urls(value: Any) -> None:
    """`base_urls` of every model in a configuration."""
    if isinstance(value, Model):
        base_urls(value)
    elif isinstance(value, Section):
        for part in vars(value).values():
            check_urls(part)
    elif isinstance(value, (list, tuple, dict)):
        for part in value.values() if isinstance(value, dict) else value:
            check_urls(part)


def _secret(url: str) -> str:
    """What is secret in an address, in words without the secret; "" where nothing is."""
    host, _, rest = url.partition("://")[2 if "://" in url else 0].partition("/")
    if "@" in host:
        return "a user name or password"
    query = (rest or host).partition("?")[2]
    names = [name for name, _ in parse_qsl(query, keep_blank_values=True)]
    return next((f"the parameter {name[:40]!r}" for name in names if _SECRET.search(name)), "")
