"""Reference-free restoration: published super-resolution networks, with weights out of ncnn packages."""
