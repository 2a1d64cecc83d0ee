"""Migrations: a folder of updaters, each applied once to a target, in order, from any runner.

folder.py   the files: names, order, checksums
plan.py     files and ledger side by side: what is applied, pending, wrong
lock.py     one `bulkup migrate` at a time works on a target
apply.py    applies what is pending
marks.py    what people set by hand: applied, pending, an accepted change, a freed run
"""
