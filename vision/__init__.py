"""Pictures to genres: split, train, evaluate, predict."""
