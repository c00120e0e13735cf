"""Show one or several runs in the browser while they go on.

Examples:
    ript watch outputs/RUN
    ript watch outputs/RUN outputs/OTHER --port 0
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from pi0.ript.report.page.live import make_server
from pi0.ript.run_folder import find_run
from pi0.ript.scripts.parts.flags import Parser, require_number

DEFAULT_PORT = 8800
MAX_PORT = 65535


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line."""
    parser = Parser("ript watch", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories; several are compared")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 takes a free one")
    arguments = parser.parse_args(argv)
    require_number(arguments, "port", least=0, most=MAX_PORT)
    return arguments


def main(argv: Sequence[str]) -> None:
    """Serve until Ctrl-C."""
    arguments = parse(argv)
    try:
        server = make_server([find_run(path) or path for path in arguments.runs], arguments.port)
    except OSError as error:
        raise OSError(
            f"--port {arguments.port}: {error.strerror}; choose another one, or 0 for any"
        ) from error
    host, port = server.server_address[:2]
    print(f"http://{host}:{port}/  (Ctrl-C ends it)", flush=True)
    with server:
        server.serve_forever()
