"""`python -m pipemlp` and `pipemlp`: run a command, and turn errors into messages and exit codes."""

import sys

from pipemlp.cli.app import app
from pipemlp.config.errors import UserError


def main() -> None:
    """Run the command line; ends the process with the promised exit code."""
    try:
        app(prog_name="pipemlp")
    except UserError as error:
        for message in error.messages:
            print(f"pipemlp: {message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
