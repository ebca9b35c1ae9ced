//! Black-box tests: the program as its users run it, over loopback.

mod cli;
