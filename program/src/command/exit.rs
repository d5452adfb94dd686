//! How the commands end: one number for each kind of end.

/// All went well.
pub const SUCCESS: u8 = 0;
/// `fuseline diff` found differences.
pub const DIFFERENT: u8 = 1;
/// The command line is wrong.
pub const USAGE: u8 = 2;
/// A file can't be read or written.
pub const FILE: u8 = 3;
/// A file is not what it should be.
pub const MALFORMED: u8 = 4;
/// Something that is not supported.
pub const UNSUPPORTED: u8 = 5;
/// Inputs that the program does not take.
pub const INPUT: u8 = 6;
/// Running the program failed.
pub const EXECUTION: u8 = 7;
/// More memory is needed than is allowed.
pub const MEMORY: u8 = 8;
/// A bug of ours.
pub const BUG: u8 = 70;
/// Ended by Ctrl-C; other signals are 128 and their number as well.
pub const INTERRUPTED: u8 = 130;

/// The exit codes of both commands, with what they mean.
pub const EXIT_CODES: &[(u8, &str)] = &[
    (SUCCESS, "success"),
    (DIFFERENT, "the programs differ (`fuseline diff`)"),
    (USAGE, "wrong usage of the command line; nothing was done"),
    (FILE, "a file can't be read or written"),
    (MALFORMED, "a file is not what it should be"),
    (UNSUPPORTED, "something that is not supported"),
    (
        INPUT,
        "inputs that the program does not take: of another type or shape, or more tokens than its cache holds",
    ),
    (
        EXECUTION,
        "the program failed while it ran, or gave other results than expected",
    ),
    (MEMORY, "more memory is needed than --max-memory allows"),
    (BUG, "an internal error: a bug of Fuseline"),
    (INTERRUPTED, "interrupted (128 and the signal's number)"),
];

/// The table as the help of a command shows it.
#[must_use]
pub fn help() -> String {
    let rows = EXIT_CODES
        .iter()
        .map(|(code, what)| format!("  {code:>3}  {what}"));
    let rows: Vec<String> = rows.collect();
    format!("Exit codes:\n{}", rows.join("\n"))
}
