"""Stands in for vLLM where only starting and ending servers is tested: same module path, /health, a fixed answer.

It writes its arguments, GPUs and process ids where STUB_NOTES says, prints STUB_SAYS, ends at /die (and at once with
STUB_FAILS), and leaves a child in a session of its own, as a careless server would. STUB_DEAF: it ignores SIGTERM.
"""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(3)
        self._answer({"data": []})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = {"message": {"role": "assistant", "content": f"from {os.getpid()}"}, "finish_reason": "stop"}
        self._answer({"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 2}})

    def _answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    print("stub engine:", os.environ.get("STUB_SAYS", ""), flush=True)
    if os.environ.get("STUB_FAILS"):
        sys.exit("no room on this device")
    if os.environ.get("STUB_DEAF"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    note = {"argv": sys.argv[1:], "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "pids": [os.getpid(), child.pid]}
    with Path(os.environ["STUB_NOTES"]).open("a") as file:
        file.write(json.dumps(note) + "\n")
    port = int(sys.argv[sys.argv.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
