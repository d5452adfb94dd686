//! The runtime from outside: programs built by hand, written to files, opened and run.

#[cfg(test)]
mod caches;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod drawn;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod integers;
#[cfg(test)]
mod late;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod traceless;
