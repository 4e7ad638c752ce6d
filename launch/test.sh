#!/usr/bin/env bash
# Every check of the repository: sets up .venv where needed, then style, types, import contracts, scripts and tests.
#
#   bash launch/test.sh [--full] [pytest argument ...]      --full runs the whole product of the test grids
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
cd "$root"

# shellcheck source=launch/setup_venv.sh
source launch/setup_venv.sh
setup_venv "$root" test

bin="$root/.venv/bin"
scripts=(launch/*.sh launch/slurm/*.sbatch .ci/run)
failed=()

step() {
    local name="$1"
    shift
    echo "== $name"
    if ! "$@"; then
        failed+=("$name")
        echo "== $name: FAILED" >&2
    fi
}

parse_scripts() {
    local script
    for script in "${scripts[@]}"; do
        bash -n "$script" || return 1
    done
}

step "ruff check" "$bin/ruff" check .
step "ruff format" "$bin/ruff" format --check .
step "mypy" "$bin/mypy" pipemlp
step "import contracts" "$bin/lint-imports"
step "bash -n" parse_scripts
step "shellcheck" "$bin/shellcheck" --external-sources "${scripts[@]}"
step "pytest" "$bin/python" -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal "$@"

if [[ ${#failed[@]} -gt 0 ]]; then
    printf -v names '%s, ' "${failed[@]}"
    echo "FAILED: ${names%, }" >&2
    exit 1
fi
echo "All checks passed"
