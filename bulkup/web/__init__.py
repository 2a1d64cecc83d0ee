"""`bulkup serve`: shows the runs of a state directory and of a target in a browser on this machine.

Needs the extra `bulkup[web]`, so only the command imports this package, and only when it is used.
"""
