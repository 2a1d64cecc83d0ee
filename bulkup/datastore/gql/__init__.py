"""The part of GQL that selects entities: conditions and keys as text, as data and as messages.

conditions.py   what a condition is
grammar.lark    what may be written
parsing.py      text to conditions
building.py     what the grammar's rules make
explaining.py   what is wrong with a text, in a sentence
hints.py        what a wrong condition may have meant
shorthand.py    the conditions that two stores are compared by
text.py         conditions, and whole queries, to text
filters.py      conditions to messages, and back
"""
