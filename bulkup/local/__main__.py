"""`python -m bulkup.local FILE [--port N]`: serve a file until stopped.

Prints `ready HOST:PORT` once it accepts calls. Stops on SIGTERM or SIGINT. With `--parent` it also
stops when its standard input ends, which happens when the parent process ends for any reason.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading

from bulkup.core.errors import BulkupError, Exit
from bulkup.local.sharing import FileInUseError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bulkup.local", description=__doc__)
    parser.add_argument("file", help="the file to serve; created if it does not exist")
    parser.add_argument(
        "--port", type=int, default=0, help="the port; 0, the default, takes any free one"
    )
    parser.add_argument("--parent", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(format="%(levelname)s: %(message)s")
    os.umask(0o077)
    # A pipe, not an event: a signal delivered to another thread, or just before the wait, would not
    # wake a thread that waits for a lock.
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end)
    # It asks runs for their status, and may be sent to all processes of a group.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # Imported here because it takes a second: a signal during that time stops it cleanly too.
    from bulkup.local.server import DatastoreServer, dedicate_process

    try:
        server = DatastoreServer(options.file, port=options.port)
    except BulkupError as error:
        print(error.message, file=sys.stderr)
        return int(Exit.HELD if isinstance(error, FileInUseError) else error.exit_code)
    dedicate_process()
    with server:
        print(f"ready {server.host}", flush=True)
        if options.parent:
            threading.Thread(target=_wait_for_parent, args=(end,), daemon=True).start()
        os.read(ended, 1)
    return 0


def _wait_for_parent(end: int) -> None:
    while os.read(0, 1024):
        pass
    os.write(end, b"\0")


if __name__ == "__main__":
    sys.exit(main())
