//! The MPEG-TS slicer.
