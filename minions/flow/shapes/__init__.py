"""The shapes of declared types: how their values become plain JSON data, and back. `minions.flow.codec` is the door."""
