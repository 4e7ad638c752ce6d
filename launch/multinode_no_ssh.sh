#!/usr/bin/env bash
# Train on several machines without ssh: run this on every one of them, each with its own NODE_RANK.
#
#   bash launch/multinode_no_ssh.sh NODE_RANK MASTER_ADDR MASTER_PORT HOSTFILE CONFIG [argument of train ...]
#   bash launch/multinode_no_ssh.sh NODE_RANK MASTER_ADDR MASTER_PORT HOSTFILE CONFIG run.dir=runs/mine --resume auto
#
# NODE_RANK counts the lines of HOSTFILE from 0; MASTER_ADDR is the machine with NODE_RANK 0. The second form goes on with
# the run in run.dir, a shared folder, and begins it if there is none; give all machines the same arguments. VENV=DIR
# names another environment than .venv.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${VENV:-$root/.venv}/bin/python"
if [[ $# -lt 5 || ! "$1" =~ ^[0-9]+$ || ! "$3" =~ ^[0-9]+$ ]]; then
    echo "usage: bash launch/multinode_no_ssh.sh NODE_RANK MASTER_ADDR MASTER_PORT HOSTFILE CONFIG [argument ...]" >&2
    exit 2
fi
if [[ ! -f "$5" ]]; then
    echo "$5: there is no such config file" >&2
    exit 2
fi
if [[ ! -x "$python" ]]; then
    echo "$python: there is no such interpreter; run 'bash launch/local.sh configs/digits.yaml' once, or set VENV" >&2
    exit 2
fi

"$python" -m pipemlp.launching.hostfile "$4"
exec "$python" -m deepspeed.launcher.runner --hostfile "$4" --no_ssh --node_rank "$1" --master_addr "$2" \
    --master_port "$3" --module pipemlp train "${@:5}"
