"""Rehearsals: an updater, its chain or a folder of migrations, run whole on a throwaway copy of
real data.

request.py     what to rehearse, on which copy, and how
rehearse.py    what is done in which order, and the result
from_export.py the copy of an export
workplace.py   the private folder of the copies, which is removed in the end
loading.py     whether the updater can be loaded, before there is a copy
room.py        what is said when the disk of the copies is full
process.py     a pass in a process of its own, as its parent sees it
child.py       the same, inside that process
work.py        what the two tell each other
killing.py     the server that kills a pass at its commits
same_end.py    whether two passes have ended with the same data

Each pass is a new process, so that nothing of one reaches the next: no variable of a module, no
attribute of a class. The user's code runs only there.
"""
