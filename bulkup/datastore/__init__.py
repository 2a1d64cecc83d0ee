"""The only package, except `local`, that knows protobuf and gRPC; it knows nothing of runs."""

import os

# Before anything imports grpc: its C core logs to stderr in the middle of a progress bar.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
