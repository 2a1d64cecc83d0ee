"""`python -m bulkup.local FILE [--port N]`: serve a file until told to stop.

Prints `ready HOST:PORT` once it answers. Ends at SIGTERM or SIGINT, and with `--parent` also when
its standard input ends, which is when the process that started it does, however that ends.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading

from bulkup.core.errors import BulkupError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bulkup.local", description=__doc__)
    parser.add_argument("file", help="the file to serve; it is made when it is not there")
    parser.add_argument("--port", type=int, default=0, help="0, the default: any free one")
    parser.add_argument("--parent", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(format="%(levelname)s: %(message)s")
    os.umask(0o077)
    # A pipe, not an event: a signal that another thread takes, or that comes just before the wait,
    # would not wake a thread that waits for a lock.
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    # Now, not above: this takes a second, and the signal that comes meanwhile ends it cleanly too.
    from bulkup.local.server import DatastoreServer, dedicate_process

    try:
        server = DatastoreServer(options.file, port=options.port)
    except BulkupError as error:
        print(error.message, file=sys.stderr)
        return int(error.exit_code)
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
