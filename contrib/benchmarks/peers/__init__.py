"""One module a contender's library, so that a run imports only what it measures."""
