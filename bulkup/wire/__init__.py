"""The only rooms that know protobuf and gRPC; they know nothing of runs."""
