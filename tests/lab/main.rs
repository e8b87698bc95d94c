//! The lab: tests on a real host inside an emulated machine. `tests/lab/README.md` says what it is.
// Tests use a part of what the lab offers.
#![allow(dead_code)]

mod kit;

mod cases;
