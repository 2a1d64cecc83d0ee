"""The same work in many namespaces: each is a run of its own, with its own record and ledger.

find.py       which namespaces there are, and which are meant
each.py       an updater over every namespace, once each
sums.py       what their reports come to
migrate.py    the migrations of a folder in every namespace
"""
