"""What differs between two scans: the comparison under `bulkup diff` and `bulkup rewind`."""
