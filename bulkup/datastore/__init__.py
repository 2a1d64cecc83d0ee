"""The only room that knows protobuf and gRPC; it knows nothing of runs."""
