"""Rehearsals: an updater, its chain or a folder of migrations, run in full on a throwaway copy of
real data.

request.py     what to rehearse, on which copy, and how
rehearse.py    the steps of a rehearsal, and its result
from_export.py makes the copy from an export
workplace.py   the private folder of the copies, which is removed at the end
loading.py     checks whether the updater can be loaded, before there is a copy
room.py        the error when the disk with the copies is full
process.py     a pass in a process of its own, as its parent sees it
child.py       the same, inside that process
work.py        the messages between the two
killing.py     the server that kills a pass at its commits
same_end.py    whether two passes have ended with the same data

Each pass is a new process, so that nothing carries over to the next: no module variable, no class
attribute. The user's code runs only in these processes.
"""
