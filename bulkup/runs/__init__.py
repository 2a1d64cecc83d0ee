"""Runs, from a command to its report. One file per verb, on a shared way:

target.py         the target the user asked for
context.py        how this process executes runs
prepare.py        load, convert, connect, contact the server once
acquire.py        lock the folder, open the checkpoint, take the lease
execute.py        bind all of it to the engine
successor.py      the record of a run's successor
chain.py          execute the successors of a run
limits.py         limits over several runs
housekeeping.py   clean up what earlier runs left
listing.py        what is known of all runs, here and in Datastore

start.py          `bulkup run`
resume.py         `bulkup resume`
abandon.py        `bulkup abandon`
"""
