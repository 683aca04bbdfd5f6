"""The page that `vision.serve` shows."""
