"""Runs, from a command to its report. One file per verb, and the steps that the verbs share:

target.py         the target the user asked for
context.py        how this process executes runs
prepare.py        load, convert, connect, contact the server once
acquire.py        lock the folder, open the checkpoint, take the lease
execute.py        bind all of it to the engine
successor.py      the record of a run's successor
chain.py          execute the successors of a run
limits.py         limits that span several runs
housekeeping.py   clean up after earlier runs
listing.py        all known runs, here and in Datastore

start.py          `bulkup run`
resume.py         `bulkup resume`
abandon.py        `bulkup abandon`
"""
