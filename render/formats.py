"""Every file ending that melvision reads, in lower case with the dot: a new one is one word here."""

#: Read by libsndfile, through the soundfile package.
SNDFILE_ENDINGS = tuple(
    ".wav .wave .bwf .au .snd .flac .ogg .oga .ogx .spx .opus .mp3 .mp2 .mp1 .mpa .mpga .mpega .aiff .aif .aifc .caf"
    " .w64 .rf64 .voc .sph .nist .ircam .sf .paf .svx .8svx .avr .pvf .xi .sds".split()
)
#: Read through the ffmpeg program, where it is installed. A new one may need its format in `FFMPEG_FORMATS`, too.
FFMPEG_ENDINGS = tuple(
    ".m4a .m4b .m4r .m4v .mp4 .mov .qt .f4a .f4v .3gp .3gpp .3g2 .aac .adts .adif .wma .wmv .asf .webm .weba .mka .mkv"
    " .ape .wv .ac3 .eac3 .ec3 .amr .awb .tta .mpc .mp+ .alac .dsf".split()
)
#: ffmpeg's names of those formats; no playlists, which could make it open other files.
FFMPEG_FORMATS = "mov,aac,asf,matroska,ape,wv,ac3,eac3,amr,tta,mpc,mpc8,dsf"
AUDIO_ENDINGS = SNDFILE_ENDINGS + FFMPEG_ENDINGS

PICTURE_ENDINGS = tuple(
    ".png .apng .jpg .jpeg .jpe .jfif .jif .bmp .dib .webp .gif .tif .tiff .ppm .pgm .pbm .pnm".split()
)
