//! The lab: tests on a real host inside an emulated machine. `tests/lab/README.md` says what it is.
#![allow(dead_code, reason = "tests use a part of what the lab offers")]

mod kit;

mod cases;
