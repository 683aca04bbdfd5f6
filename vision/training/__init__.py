"""Pictures to a run folder."""
