"""Which picture is in which split: train, dev or test."""
