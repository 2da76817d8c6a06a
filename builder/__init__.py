"""Build a served model: calibrate, quantize with AWQ by AMD Quark, export with OGA's model builder, verify, publish."""
