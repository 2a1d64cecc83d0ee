"""The reference, made of what the code says: help, docstrings and the schema.

The pages are made when the site is built (`docs/hooks.py`) and are not in the repository. Only the
tables in docs/json.md are: `python -m docs.reference` writes them.
"""
