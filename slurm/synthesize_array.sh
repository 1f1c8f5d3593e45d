#!/usr/bin/env bash
# GRA in rounds of an array of jobs: seeds, then for every round N shards and, when all are done, its curation.
#   slurm/synthesize_array.sh 8 experiment=gra/paper pool=my_pool.yaml
#   SBATCH_OPTIONS="--partition=gpu --gres=gpu:1" GRA_ROUNDS=5 slurm/synthesize_array.sh 8 ...
# Submits 1 + 2 x rounds jobs that wait for each other, prints the number of the last one, and ends. When one fails those
# behind it are cancelled; call this again: what is done is found in the ledger.
# Variables: GRA_ROUNDS (default: synthesis.rounds of the configuration), SBATCH_OPTIONS (for all jobs),
# SHARD_OPTIONS (for the shards alone), and those of lib.sh.
set -euo pipefail
export GRA_HOME=${GRA_HOME:-$PWD}
shards=${1:?usage: slurm/synthesize_array.sh SHARDS [name=value ...]}
shift
gra_train=${GRA_TRAIN:-$GRA_HOME/.venv/bin/gra-train}
command -v "$gra_train" >/dev/null || gra_train=gra-train
rounds=${GRA_ROUNDS:-$("$gra_train" config "$@" | sed -n 's/^synthesis\.rounds: *\([0-9]*\).*/\1/p')}

submit() { # SBATCH_OPTIONS are several words
    # shellcheck disable=SC2086
    sbatch --parsable --kill-on-invalid-dep=yes ${SBATCH_OPTIONS:-} "$@"
}
script=$GRA_HOME/slurm/synthesize.sbatch
last=$(submit "$script" "$@" synthesis.stop_after=0)
for round in $(seq 1 "$rounds"); do
    # shellcheck disable=SC2086
    made=$(submit --dependency=afterok:"$last" --array=1-"$shards" ${SHARD_OPTIONS:-} "$script" "$@")
    stop=()
    [ "$round" = "$rounds" ] || stop=("synthesis.stop_after=$round")
    # everything is in the ledger: looking ahead would only ask for more
    last=$(submit --dependency=afterok:"$made" "$script" "$@" synthesis.lookahead=0 "${stop[@]}")
done
echo "$last"
