"""Every file ending that melvision reads, in lower case with the dot: a new one is one word here."""

#: Read by libsndfile, through the soundfile package.
SNDFILE_ENDINGS = tuple(
    ".wav .wave .au .snd .flac .ogg .oga .opus .mp3 .mp2 .aiff .aif .aifc .caf .w64 .rf64 .voc .sph .nist".split()
    + ".ircam .sf .paf .svx .8svx .avr .pvf .xi .sds".split()
)
#: Read through the ffmpeg program, where it is installed. A new one may need its format in `FFMPEG_FORMATS`, too.
FFMPEG_ENDINGS = tuple(".m4a .m4b .mp4 .aac .wma .webm .mka .weba .ape .wv .ac3 .amr .3gp .tta .mpc .alac .dsf".split())
#: ffmpeg's names of those formats; no playlists, which could make it open other files.
FFMPEG_FORMATS = "mov,aac,asf,matroska,ape,wv,ac3,eac3,amr,tta,mpc,mpc8,dsf"
AUDIO_ENDINGS = SNDFILE_ENDINGS + FFMPEG_ENDINGS

PICTURE_ENDINGS = tuple(".png .jpg .jpeg .bmp .webp .gif .tif .tiff .ppm .pgm".split())
