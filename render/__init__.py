"""Audio to Mel-spectrogram pictures: one PNG a track, in genre folders."""

__version__ = "0.1.0"
