"""Audio to Mel-spectrogram pictures: one PNG a track, sorted into genre folders."""

__version__ = "0.1.0"
