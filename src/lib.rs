//! The front door for TCP on Linux.
pub mod config;
pub mod listener;
pub mod service;
pub mod sys;
