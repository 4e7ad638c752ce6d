#!/usr/bin/env bash
# Train on several machines from one of them, over pdsh and ssh without a password.
#
#   HOSTFILE=my_hosts bash launch/multinode_pdsh.sh CONFIG [argument of train ...]
#   HOSTFILE=my_hosts bash launch/multinode_pdsh.sh CONFIG run.dir=runs/mine --resume auto
#
# Repository, .venv and CONFIG are at the same place on all machines (a shared folder). Needs pdsh. The second form goes on
# with the run in run.dir, a shared folder too, and begins it if there is none. Arguments go over ssh unquoted, so they are
# plain words; other settings belong into the config file. MASTER_PORT=N changes the port, VENV=DIR the environment.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${VENV:-$root/.venv}/bin/python"
if [[ $# -lt 1 || -z "${HOSTFILE:-}" ]]; then
    echo "usage: HOSTFILE=FILE bash launch/multinode_pdsh.sh CONFIG [argument ...]" >&2
    exit 2
fi
config="$1"
# The launcher pastes paths and arguments into a remote shell's command line.
for path in "$config" "$PWD" "$python"; do
    if [[ ! "$path" =~ ^[A-Za-z0-9_./][A-Za-z0-9_./-]*$ ]]; then
        echo "$path: over ssh, paths may hold letters, digits, dots, slashes, dashes and underscores only" >&2
        exit 2
    fi
done
for argument in "${@:2}"; do
    if [[ ! "$argument" =~ ^[A-Za-z0-9_./-][A-Za-z0-9_./=,:+-]*$ ]]; then
        echo "$argument: over ssh, arguments may hold letters, digits and ./=,:+-_ only; set it in $config" >&2
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
for exported in "${HOME:-}/${DS_ENV_FILE:-.deepspeed_env}" "$PWD/${DS_ENV_FILE:-.deepspeed_env}"; do
    if [[ -f "$exported" ]]; then
        echo "$exported: the launcher exports what is in it to all hosts" >&2
    fi
done
exec "$python" -m deepspeed.launcher.runner --hostfile "$HOSTFILE" --master_port "${MASTER_PORT:-29500}" \
    --module pipemlp train "$@"
