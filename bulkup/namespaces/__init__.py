"""The same work in many namespaces. Each namespace has its own runs and its own ledger.

find.py          the namespaces that match a pattern
group_run.py     executes an updater in every namespace, once in each
runs_listener.py collects what the report of all namespaces says about each run
results.py       the result of each namespace
stored.py        a group as the state directory knows it
totals.py        totals over the reports of all namespaces
migrate_all.py   applies the migrations of a folder in every namespace
"""
