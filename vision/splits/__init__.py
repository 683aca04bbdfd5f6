"""Which picture is on which side."""
