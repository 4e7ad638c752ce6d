# shellcheck shell=bash
# Makes .venv at the repository root and installs PipeMLP into it. Sourced by local.sh and test.sh.
#
#   setup_venv ROOT [EXTRA]     EXTRA is an optional-dependency group of pyproject.toml, such as test
#
# PYTHON=/path/to/python chooses the interpreter. pip runs again only when pyproject.toml has changed.
set -euo pipefail

find_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11 python)
    if [[ -n "${PYTHON:-}" ]]; then
        candidates=("$PYTHON")
    fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            echo "$candidate"
            return 0
        fi
    done
    candidate="${candidates[0]}"
    echo "PipeMLP needs Python 3.11 or later; $candidate is: $("$candidate" --version 2>/dev/null || echo missing)" >&2
    echo "Install one, or name it by PYTHON=/path/to/python3.11 in front of the command" >&2
    return 1
}

create_venv() {
    local venv="$1" python
    python="$(find_python)" || return 1
    echo "Creating .venv with $("$python" --version)" >&2
    if ! "$python" -m venv --clear "$venv" >&2; then
        rm -rf "$venv"
        echo "$python cannot create a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        return 1
    fi
}

setup_venv() {
    local root="$1" extra="${2:-}" venv stamp wanted target
    venv="$root/.venv"
    if ! "$venv/bin/python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        create_venv "$venv" || return 1
    fi
    stamp="$venv/pipemlp-installed${extra:+-$extra}"
    # The folder is part of it: an environment that was moved points to where it came from.
    wanted="$root $(cksum <"$root/pyproject.toml")"
    if [[ -f "$stamp" && "$(<"$stamp")" == "$wanted" ]]; then
        return 0
    fi
    target="$root${extra:+[$extra]}"
    echo "Installing PipeMLP${extra:+ with what its ${extra}s need} into .venv (the first time takes some minutes)" >&2
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$target" >&2; then
        echo "pip could not install PipeMLP; its message is above" >&2
        return 1
    fi
    echo "$wanted" >"$stamp"
    echo "$wanted" >"$venv/pipemlp-installed"
}
