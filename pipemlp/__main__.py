"""`python -m pipemlp` and `pipemlp`: run a command, and turn errors into messages and exit codes."""

import errno
import sys

from pipemlp.config.errors import ConfigError, UserError

_OF_THE_USER = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)
"""What the system says of a place where this user may not, or cannot, write or read."""


def main() -> None:
    """Run the command line; ends the process with the promised exit code."""
    try:
        from pipemlp.cli.app import app  # takes a second, in which a user may press Ctrl-C

        app(prog_name="pipemlp")
    except UserError as error:
        for message in error.messages:
            print(f"pipemlp: {message}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None or error.errno not in _OF_THE_USER:
            raise
        print(f"pipemlp: {error.filename}: {error.strerror}", file=sys.stderr)
        sys.exit(ConfigError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
