"""The embedded Datastore and Google's emulators get the same requests and must answer alike.

wire.py         raw requests to one server, without the official client in between
build.py        short spellings of keys, values, entities, filters and queries
answers.py      what a server said, as text that two servers can agree on
differences.py  every deliberate difference, with its reason: the only ones allowed
compare.py      one request, several servers, one verdict
strategies.py   generated data and requests
"""
