//! Tests over the whole table: each row is sound by number, and has a case file in which it fires and in which it doesn't.

mod cases;
mod compare;
mod draw;
mod mutants;
mod sound;
mod witness;
