"""The embedded Datastore and Google's emulators must answer the same requests in the same way.

wire.py         raw requests to one server, without the official client in between
build.py        short notations for keys, values, entities, filters and queries
answers.py      what a server answered, as text that can be compared
compare.py      one request, two servers, one verdict
differences.py  every deliberate difference and its reason; no others are allowed
restate.py      an emulator's answer, restated where a difference applies
story.py        sequences of commits, with the state after each
strategies.py   generated data and requests
budget.py       how many examples the generated tests try: BULKUP_EXAMPLES=2000 for a night
"""
