"""The embedded Datastore: a gRPC server of google.datastore.v1 over SQLite."""
