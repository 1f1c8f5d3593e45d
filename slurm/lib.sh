# What the sbatch scripts share: where gra-train is, the job's folder, stopping by file, requeueing. Sourced by bash.
#
# Shortly before the time is up SLURM sends USR1 to the batch script alone (--signal=B:USR1@SECONDS). The script makes
# the STOP file that all stages look for, waits until they have saved, and puts the job back into the queue. By hand:
#   scancel --batch --signal=USR1 JOB     save and requeue
#   scancel --batch --signal=TERM JOB     save and end
#
# Variables that may be set: GRA_HOME (the checkout; default: where sbatch was called), GRA_TRAIN (the command; default:
# the checkout's .venv, else the PATH), GRA_JOBS (folder of the jobs' folders), GRA_MAX_REQUEUES.

EXIT_STOPPED=75 # gra-train's exit code for "stopped as asked, run me again"

# Sets the job's folder, its log and the STOP file. All output from here on goes to the log.
gra_setup() {
    export GRA_HOME=${GRA_HOME:-$SLURM_SUBMIT_DIR}
    cd "$GRA_HOME" || exit 1
    gra_train=${GRA_TRAIN:-$GRA_HOME/.venv/bin/gra-train}
    command -v "$gra_train" >/dev/null || gra_train=gra-train
    if ! command -v "$gra_train" >/dev/null; then
        echo "No gra-train in $GRA_HOME/.venv nor on the PATH: run 'make venv' there, or set GRA_TRAIN." >&2
        exit 1
    fi
    gra_folder=${GRA_JOBS:-$GRA_HOME/runs/slurm}/$SLURM_JOB_ID
    mkdir -p "$gra_folder" || exit 1
    echo "log: $gra_folder/log.txt"
    exec >>"$gra_folder/log.txt" 2>&1
    echo "job $SLURM_JOB_ID on ${SLURM_JOB_NODELIST:-?}, start $((${SLURM_RESTART_COUNT:-0} + 1))"
    export GRA_STOP_FILE=$gra_folder/STOP
    rm -f "$GRA_STOP_FILE" # of an earlier start
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    # srun does not take this over from sbatch by itself
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
}

# Runs gra-train with the arguments given, stops it by file when asked to, and requeues the job if it is to go on.
gra_run() {
    local requeue=no signalled=yes code child
    trap 'signalled=yes requeue=yes; echo "time is nearly up: asking the stages to save"; : >"$GRA_STOP_FILE"' USR1
    trap 'signalled=yes requeue=no; echo "asked to end: asking the stages to save"; : >"$GRA_STOP_FILE"' TERM
    "$gra_train" "$@" &
    child=$!
    while [ "$signalled" = yes ]; do # a signal ends the wait, not the child
        signalled=no
        wait "$child"
        code=$?
    done
    trap - USR1 TERM
    echo "gra-train ended with exit code $code"
    if [ "$code" != "$EXIT_STOPPED" ] || [ "$requeue" != yes ]; then
        exit "$code"
    fi
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "${GRA_MAX_REQUEUES:-100}" ]; then
        echo "requeued ${SLURM_RESTART_COUNT} times already (GRA_MAX_REQUEUES): giving up"
        exit "$code"
    fi
    rm -f "$GRA_STOP_FILE"
    echo "requeueing job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID" || exit "$code"
    sleep 300 # SLURM ends this script
}
