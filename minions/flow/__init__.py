"""What moves and what is kept: channels, the unit of work, the journal, the store."""
