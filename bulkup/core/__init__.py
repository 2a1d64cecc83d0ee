"""What every room shares: the model of a run, its events, errors, and the clock."""
