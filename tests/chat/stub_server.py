"""A deterministic OpenAI-compatible server with faults on demand, run in a process of its own.

    python stub_server.py PORT_FILE [--delay SECONDS] [--port PORT] [--owner NAME] [--weights NAME]

Answers are a hash of messages and seed. The served model's name asks for faults. `FAULTxN`: the first N calls of each
request go wrong: 429 (with Retry-After), 500, reset, and answers that are garbage, empty, truncated, huge (10 MB),
bomb (nested JSON), gzip (a bomb too), shapeless, loris (a byte now and then). Else: "slow" never answers, "no-system"
refuses a system role, "400" refuses all, "poison" refuses what holds that word, "broken" answers that with 500, "key"
wants a bearer token and sends it back, "strict" refuses expressions, "capacity8" answers 429 above 8 at a time,
"window" has no room for max_tokens, "redirect" points elsewhere, "echo" and "vllm" return log-probabilities of the
prompt ("echo-400" and "echo-500" answer so to prompts of more than 60 tokens), "able" knows n and logprobs.
GET /stats: how often each request was received; GET /reset forgets it. GET /set?owner=vllm&weights=A&noise=0.01: who it
says it is in GET /models, and the log-probabilities by which its weights are known.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

from aiohttp import web

seen: Counter[str] = Counter()
active, most_active = 0, 0
JSON = "application/json"
WHOLE = '{"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}'


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def chat(request: web.Request) -> web.StreamResponse:
    global active, most_active
    active += 1
    most_active = max(active, most_active)
    try:
        await asyncio.sleep(options.delay)
        return await answer(request)
    finally:
        active -= 1


async def answer(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    model = body["model"]
    if "top_logprobs" in body:  # the probe of who this is
        return web.json_response({"choices": [{"message": {"content": "x"}, "logprobs": weights()}]})
    name = digest(model, body.get("messages", body.get("prompt")), body.get("seed"))
    seen[name] += 1
    fault = re.match(r"([a-z0-9]+)x(\d+)$", model)
    if fault and seen[name] <= int(fault[2]):
        return await wrong(fault[1], request)
    if model == "slow":
        await asyncio.sleep(60)
    text = json.dumps(body.get("messages", ""))
    if model == "400" or (model == "poison" and "poison" in text):
        return web.json_response({"error": f"no such thing for {request.headers.get('Authorization')}"}, status=400)
    if model == "broken" and "poison" in text:
        return web.Response(status=500)
    if model == "key" and request.headers.get("Authorization") != "Bearer canary-5e1f":
        return web.json_response({"error": "wrong key"}, status=401)
    if model == "redirect":
        raise web.HTTPTemporaryRedirect(f"http://localhost:{options.port}/v1/chat/completions")
    if model == "capacity8" and active > 8:
        return web.Response(status=429)
    room = 64 - len(body.get("prompt", ()))
    if model == "window" and (body.get("max_tokens", 0) > (room if "prompt" in body else 0) or "long" in text):
        said = "This model's maximum context length is 64 tokens."
        if "prompt" in body:
            said = f"max_tokens={body.get('max_tokens')} cannot be greater than max_model_len=64."
        return web.json_response({"message": said}, status=400)
    if model == "window" and "prompt" in body:
        return web.json_response({"choices": [{"text": "x" * body["max_tokens"], "finish_reason": "length"}]})
    if "messages" not in body:
        return completions(model, body)
    if model == "no-system" and any(m["role"] == "system" for m in body["messages"]):
        return web.json_response({"error": "System role not supported"}, status=400)
    if model == "strict" and "structured_outputs" in body:
        return web.json_response({"detail": "Unexpected fields: {'structured_outputs'}"}, status=422)
    if model == "strict-n" and "n" in body:
        return web.json_response({"detail": "Unexpected fields: {'n'}"}, status=422)
    choices = [choice(request, body, i) for i in range(body.get("n", 1) if model == "able" else 1)]
    if model == "surrogate":
        raw = '{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "length"}]}'
        return web.Response(text=raw, content_type=JSON)
    if model == "control":
        return web.Response(text=WHOLE.replace("whole", "a\x00\x1b\\u0007b"), content_type=JSON)
    usage = {"prompt_tokens": 5, "completion_tokens": 12 * len(choices)}
    return web.json_response({"choices": choices, "usage": usage})


def choice(request: web.Request, body: dict, i: int) -> dict:
    text = digest(body["messages"], body.get("seed"))[i : 12 + i]
    if "structured_outputs" in body and body["model"] == "regex":
        text = "7"
    if "response_format" in body and body["model"] == "schema":
        text = '{"score": 7}'
    if body["model"] == "key":
        text = str(request.headers.get("Authorization"))
    found: dict = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if "logprobs" in body and body["model"] == "able":
        found["logprobs"] = {"content": [{"token": t, "logprob": -0.5} for t in text]}
    return found


async def wrong(fault: str, request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    if fault == "reset":
        request.transport.abort()
    elif fault == "truncated":
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + WHOLE[:40].encode())
        request.transport.close()
    elif fault == "loris":
        response = web.StreamResponse(headers={"Content-Type": JSON})
        await response.prepare(request)
        for byte in WHOLE.encode():
            await response.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return response
    elif fault == "gzip":
        headers = {"Content-Encoding": "gzip", "Content-Type": JSON}
        return web.Response(body=gzip.compress(b"[" * 2**20), headers=headers)
    texts = {
        "garbage": '{"choices": [',
        "empty": "",
        "huge": WHOLE.replace("whole", "x" * 10_000_000),
        "bomb": "[" * 100_000,
        "shapeless": '{"choices": [{"message": {"content": {"a": 1}}}]}',
    }
    if fault in texts:
        return web.Response(text=texts[fault], content_type=JSON)
    return web.Response(status=500 if fault == "reset" else int(fault), headers={"Retry-After": "0.01"})


def weights() -> dict | None:
    """The probe's log-probabilities."""
    if not options.weights:
        return None
    rows = [(t, -int(digest(options.weights, t)[:2], 16) / 64 - float(options.noise)) for t in "abcde"]
    return {"content": [{"top_logprobs": [{"token": t, "logprob": value} for t, value in rows]}]}


def completions(model: str, body: dict) -> web.Response:
    if "echo" not in body:
        return web.json_response({"choices": [{"text": f"{len(body['prompt'])} tokens", "finish_reason": "stop"}]})
    if model.startswith("echo-") and len(body["prompt"]) > 60:
        return web.json_response({"error": "this one not"}, status=int(model[-3:]))
    values = [None, *(-0.5 * i for i in range(1, len(body["prompt"])))]
    choice: dict = {"text": "x", "finish_reason": "length"}
    if model.startswith(("echo", "500x")):
        choice["logprobs"] = {"token_logprobs": [*values, -9.0]}
    if model == "vllm":
        rows = [None if v is None else {str(t): {"logprob": v}} for v, t in zip(values, body["prompt"], strict=True)]
        choice["prompt_logprobs"] = rows
    return web.json_response({"choices": [choice]})


async def models(request: web.Request) -> web.Response:
    refused = request.headers.get("Authorization") == "Bearer wrong"
    rows = [{"id": name, "owned_by": options.owner} for name in ("plain", "able")] if options.owner else []
    return web.json_response({"data": rows}, status=401 if refused else 200)


async def stats(request: web.Request) -> web.Response:
    return web.json_response({"requests": dict(seen), "most_active": most_active})


async def reset(request: web.Request) -> web.Response:
    global most_active
    seen.clear()
    most_active = 0
    vars(options).update(owner=options.first_owner, weights=options.first_weights, noise=0)
    return web.Response()


async def change(request: web.Request) -> web.Response:
    vars(options).update(request.query)
    return web.Response()


async def main() -> None:
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat), web.post("/v1/completions", chat)])
    app.add_routes(
        [web.get("/v1/models", models), web.get("/stats", stats), web.get("/reset", reset), web.get("/set", change)]
    )
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port)
    await site.start()
    options.port = runner.addresses[0][1]
    file = options.file
    file.with_suffix(".tmp").write_text(str(options.port))
    file.with_suffix(".tmp").replace(file)
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--delay", type=float, default=0.002)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--owner", default="", dest="first_owner")
    parser.add_argument("--weights", default="", dest="first_weights")
    options = parser.parse_args()
    vars(options).update(owner=options.first_owner, weights=options.first_weights, noise=0)
    asyncio.run(main())
