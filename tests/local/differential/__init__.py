"""The embedded Datastore and Google's emulators get the same requests and must answer alike.

wire.py         raw requests to one server, without the official client in between
build.py        short spellings of keys, values, entities, filters and queries
answers.py      what a server said, as text that two servers can agree on
compare.py      one request, two servers, one verdict
differences.py  every deliberate difference, with its reason: the only ones allowed
restate.py      how an emulator's answer reads where such a difference applies
story.py        sequences of commits, with what is there after each
strategies.py   generated data and requests
budget.py       how much the generated tests try: BULKUP_EXAMPLES=2000 for a night
"""
