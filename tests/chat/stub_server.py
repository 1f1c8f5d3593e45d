"""A deterministic OpenAI-compatible server with faults on demand, run in a process of its own.

    python stub_server.py PORT_FILE

Answers are a hash of messages and seed. The served model's name asks for faults: "429x2" refuses the first two calls of
each request with Retry-After, "500x2", "resetx1", "garbagex1", "slow" never answers, "no-system" refuses a system role,
"400" refuses all, "key" wants a bearer token, "strict" refuses expressions, "echo" and "vllm" return log-probabilities
of the prompt.
GET /stats: how often each request was received.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

from aiohttp import web

seen: Counter[str] = Counter()
active, most_active = 0, 0


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


async def chat(request: web.Request) -> web.StreamResponse:
    global active, most_active
    active += 1
    most_active = max(active, most_active)
    try:
        await asyncio.sleep(0.002)
        return await answer(request)
    finally:
        active -= 1


async def answer(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    model = body["model"]
    name = digest(model, body.get("messages", body.get("prompt")), body.get("seed"))
    seen[name] += 1
    fault = re.match(r"(429|500|reset|garbage)x(\d+)", model)
    if fault and seen[name] <= int(fault[2]):
        if fault[1] == "reset":
            assert request.transport is not None
            request.transport.abort()
        if fault[1] == "garbage":
            return web.Response(text='{"choices": [', content_type="application/json")
        return web.Response(status=500 if fault[1] == "reset" else int(fault[1]), headers={"Retry-After": "0.01"})
    if model == "slow":
        await asyncio.sleep(60)
    if model == "400":
        return web.json_response({"error": f"no such thing for {request.headers.get('Authorization')}"}, status=400)
    if model == "key" and request.headers.get("Authorization") != "Bearer canary-5e1f":
        return web.json_response({"error": "wrong key"}, status=401)
    if "messages" not in body:
        return completions(model, body)
    if model == "no-system" and any(m["role"] == "system" for m in body["messages"]):
        return web.json_response({"error": "System role not supported"}, status=400)
    if model == "strict" and "structured_outputs" in body:
        return web.json_response({"detail": "Unexpected fields: {'structured_outputs'}"}, status=422)
    text = digest(body["messages"], body.get("seed"))[:12]
    if "structured_outputs" in body and model == "regex":
        text = "7"
    if model == "surrogate":
        raw = '{"choices": [{"message": {"content": "a\\ud800b"}, "finish_reason": "length"}]}'
        return web.Response(text=raw, content_type="application/json")
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 12}})


def completions(model: str, body: dict) -> web.Response:
    values = [None, *(-0.5 * i for i in range(1, len(body["prompt"])))]
    choice: dict = {"text": "x", "finish_reason": "length"}
    if model == "echo":
        choice["logprobs"] = {"token_logprobs": [*values, -9.0]}
    if model == "vllm":
        rows = [None if v is None else {str(t): {"logprob": v}} for v, t in zip(values, body["prompt"], strict=True)]
        choice["prompt_logprobs"] = rows
    return web.json_response({"choices": [choice]})


async def models(request: web.Request) -> web.Response:
    refused = request.headers.get("Authorization") == "Bearer wrong"
    return web.json_response({"data": []}, status=401 if refused else 200)


async def stats(request: web.Request) -> web.Response:
    return web.json_response({"requests": dict(seen), "most_active": most_active})


async def main() -> None:
    app = web.Application()
    app.add_routes([web.post("/v1/chat/completions", chat), web.post("/v1/completions", chat)])
    app.add_routes([web.get("/v1/models", models), web.get("/stats", stats)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    file = Path(sys.argv[1])
    file.with_suffix(".tmp").write_text(str(port))
    file.with_suffix(".tmp").replace(file)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
