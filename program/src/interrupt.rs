//! An orderly end for commands that a signal stops.

/// From now on SIGINT, SIGTERM and SIGHUP remove what is being written ([`crate::replace::abandon`]) and end the process with 128 and the signal's
/// number, as a shell reports it: 130 for Ctrl-C. A signal that the process was started to ignore stays ignored.
///
/// To be called by a command before it starts threads. Where there are no such signals it does nothing.
pub fn tidy_up_on_signals() {
    #[cfg(unix)]
    unix::install();
}

#[cfg(unix)]
mod unix {
    use std::thread;

    /// The signals are blocked in all threads, and one thread waits for them. So what they do may do anything, unlike a handler.
    pub(super) fn install() {
        // SAFETY: the set is made empty before it is used, the calls read and write plain data.
        let set = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
                let mut action: libc::sigaction = std::mem::zeroed();
                let asked = libc::sigaction(signal, std::ptr::null(), &raw mut action);
                if asked == 0 && action.sa_sigaction == libc::SIG_DFL {
                    libc::sigaddset(&raw mut set, signal);
                }
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            set
        };
        let waiting = thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || wait(set));
        if waiting.is_err() {
            // Without the thread the signals shall work as ever.
            // SAFETY: as above.
            unsafe {
                libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
            }
        }
    }

    fn wait(set: libc::sigset_t) {
        let mut signal = 0;
        // SAFETY: the set is initialised and the number has a place.
        while unsafe { libc::sigwait(&raw const set, &raw mut signal) } != 0 {}
        crate::replace::abandon();
        // SAFETY: ends the process without running what is left of it.
        unsafe { libc::_exit(128 + signal) }
    }
}
