#!/usr/bin/env bash
# Train on this machine: sets up .venv where needed, then runs `pipemlp train`.
#
#   bash launch/local.sh CONFIG [section.key=value ...]
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
if [[ $# -eq 0 ]]; then
    echo "usage: bash launch/local.sh CONFIG [section.key=value ...]" >&2
    echo "example: bash launch/local.sh configs/digits.yaml" >&2
    exit 2
fi

# shellcheck source=launch/setup_venv.sh
source "$root/launch/setup_venv.sh"
setup_venv "$root"
exec "$root/.venv/bin/pipemlp" train "$@"
