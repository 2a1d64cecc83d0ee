"""What outlives the process: checkpoint, markers, ledger."""
