"""Migrations: a folder of updaters, each applied once to a target, in order, from any machine.

folder.py   the files: names, order, checksums
status.py   compares folder and ledger: what is applied, pending, changed, missing
lock.py     lets one `bulkup migrate` at a time work on a target
apply.py    applies the pending migrations
record.py   the run record of one migration
manual.py   changes made by hand: mark applied or pending, accept a change, unlock
"""
