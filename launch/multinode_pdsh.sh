#!/usr/bin/env bash
# Train on several machines from one of them, over pdsh and ssh without a password.
#
#   HOSTFILE=my_hosts bash launch/multinode_pdsh.sh CONFIG
#
# Repository, .venv and CONFIG are at the same place on all machines (a shared folder). Needs pdsh. Only the name of the
# config file goes over ssh: settings belong into that file. MASTER_PORT=N changes the port, VENV=DIR the environment.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${VENV:-$root/.venv}/bin/python"
if [[ $# -ne 1 || -z "${HOSTFILE:-}" ]]; then
    echo "usage: HOSTFILE=FILE bash launch/multinode_pdsh.sh CONFIG" >&2
    exit 2
fi
config="$1"
# The launcher pastes paths into a remote shell's command line.
for path in "$config" "$PWD" "$python"; do
    if [[ ! "$path" =~ ^[A-Za-z0-9_./][A-Za-z0-9_./-]*$ ]]; then
        echo "$path: over ssh, paths may hold letters, digits, dots, slashes, dashes and underscores only" >&2
        exit 2
    fi
done
if [[ ! -f "$config" ]]; then
    echo "$config: there is no such config file" >&2
    exit 2
fi
if [[ ! -x "$python" ]]; then
    echo "$python: there is no such interpreter; run 'bash launch/local.sh configs/digits.yaml' once, or set VENV" >&2
    exit 2
fi

"$python" -m pipemlp.launching.hostfile "$HOSTFILE"
exec "$python" -m deepspeed.launcher.runner --hostfile "$HOSTFILE" --master_port "${MASTER_PORT:-29500}" \
    --module pipemlp train "$config"
