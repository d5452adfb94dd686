//! Files as bytes in memory, without reading them first.
//!
//! A file that is mapped and then cut short by somebody else has no bytes where the mapping still has addresses. Touching them ends a process
//! by SIGBUS, unless it is handled. [`Mapping`] handles it: the missing pages become zeros, the touch goes through, and [`Mapping::check`] says from
//! then on that the bytes can't be trusted. Whoever has read from a mapping asks before using what came of it. A fault at any
//! other address goes on to the handler that was there before.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// A read-only mapping of a whole file, which can be read even if the file is cut meanwhile.
#[derive(Debug)]
pub struct Mapping {
    /// None for an empty file, which can't be mapped.
    map: Option<Mmap>,
    watch: guard::Watch,
}

impl Mapping {
    /// Maps a file.
    ///
    /// # Errors
    /// It can't be opened or mapped, or is a folder.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let map = if metadata.len() == 0 {
            None
        } else {
            // SAFETY: what is written to the file meanwhile can change the bytes, which everything that reads them takes into account by checking
            // before use; what is cut off is the guard's affair.
            Some(unsafe { Mmap::map(&file) }?)
        };
        let watch = guard::Watch::over(map.as_deref().unwrap_or_default());
        Ok(Self { map, watch })
    }

    /// That nothing that has been read so far was missing from the file.
    ///
    /// # Errors
    /// The file has been cut, or its disk has failed.
    pub fn check(&self) -> io::Result<()> {
        if self.watch.is_whole() {
            return Ok(());
        }
        let reason = "the file was cut, or its disk failed, while it was read";
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason))
    }
}

impl Deref for Mapping {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

/// Handling of SIGBUS.
#[cfg(unix)]
mod guard {
    use std::ffi::{c_int, c_void};
    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
    use std::sync::{Mutex, Once, OnceLock, PoisonError};

    /// The addresses of one mapping. The handler may look at any time, so that a range is never freed, only used again.
    #[derive(Debug)]
    struct Range {
        /// 0 while the range is not in use.
        start: AtomicUsize,
        len: AtomicUsize,
        missing: AtomicBool,
        next: *const Range,
    }

    // SAFETY: `next` is set before the range is published and leads to a range that lives for ever; the rest is atomic.
    unsafe impl Sync for Range {}
    // SAFETY: as above.
    unsafe impl Send for Range {}

    static RANGES: AtomicPtr<Range> = AtomicPtr::new(ptr::null_mut());
    /// Held while a range is taken or made.
    static TAKING: Mutex<()> = Mutex::new(());
    static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

    fn ranges() -> impl Iterator<Item = &'static Range> {
        let first: *const Range = RANGES.load(Ordering::Acquire);
        // SAFETY: ranges are leaked, so that the pointers are null or good for ever.
        std::iter::successors(unsafe { first.as_ref() }, |range| unsafe {
            range.next.as_ref()
        })
    }

    /// A mapping that the handler knows about.
    #[derive(Debug)]
    pub(super) struct Watch(&'static Range);

    impl Watch {
        pub(super) fn over(bytes: &[u8]) -> Self {
            static INSTALLED: Once = Once::new();
            INSTALLED.call_once(install);
            let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
            let free = ranges().find(|range| range.start.load(Ordering::Acquire) == 0);
            let range = free.unwrap_or_else(|| {
                let range = Box::leak(Box::new(Range {
                    start: AtomicUsize::new(0),
                    len: AtomicUsize::new(0),
                    missing: AtomicBool::new(false),
                    next: RANGES.load(Ordering::Acquire),
                }));
                RANGES.store(range, Ordering::Release);
                range
            });
            range.missing.store(false, Ordering::Release);
            range.len.store(bytes.len(), Ordering::Release);
            range.start.store(bytes.as_ptr().addr(), Ordering::Release);
            Self(range)
        }

        pub(super) fn is_whole(&self) -> bool {
            !self.0.missing.load(Ordering::Acquire)
        }
    }

    impl Drop for Watch {
        fn drop(&mut self) {
            self.0.start.store(0, Ordering::Release);
        }
    }

    fn install() {
        // SAFETY: the structures are plain data for which zeros are good, the handler does only what a handler may.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_fault as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            let mut before: libc::sigaction = std::mem::zeroed();
            if libc::sigaction(libc::SIGBUS, &raw const action, &raw mut before) == 0 {
                // Set once: this is called once.
                let _ = BEFORE.set(before);
            }
        }
    }

    /// Puts zeros where the fault is, if that is inside a mapping. Else the handler of before gets the fault when the instruction is tried again.
    extern "C" fn on_fault(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
        // SAFETY: the system passes a good pointer, and for this signal it has an address.
        let address = unsafe { (*info).si_addr() }.addr();
        for range in ranges() {
            let start = range.start.load(Ordering::Acquire);
            let end = start.saturating_add(range.len.load(Ordering::Acquire));
            if start == 0 || !(start..end).contains(&address) {
                continue;
            }
            range.missing.store(true, Ordering::Release);
            // SAFETY: the pages from the fault to the end of our own mapping are replaced by such that can be read. They are
            // all missing: a file is cut at its end. `mmap` is a plain system call.
            let mapped = unsafe {
                let page = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(1);
                let from = address - address % page;
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
                libc::mmap(
                    ptr::without_provenance_mut(from),
                    end - from,
                    libc::PROT_READ,
                    flags,
                    -1,
                    0,
                )
            };
            if mapped != libc::MAP_FAILED {
                return;
            }
        }
        // SAFETY: sets the handler of before, or the system's own.
        unsafe {
            match BEFORE.get() {
                Some(before) => libc::sigaction(libc::SIGBUS, before, ptr::null_mut()),
                None => {
                    libc::signal(libc::SIGBUS, libc::SIG_DFL);
                    0
                }
            };
        }
    }
}

#[cfg(not(unix))]
mod guard {
    /// Elsewhere a mapped file can't be cut.
    #[derive(Debug)]
    pub(super) struct Watch;

    impl Watch {
        pub(super) fn over(_bytes: &[u8]) -> Self {
            Self
        }

        pub(super) fn is_whole(&self) -> bool {
            true
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::Mapping;
    use std::fs::File;
    use std::io::Write;

    fn megabyte() -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(&vec![7; 1 << 20]).expect("bytes");
        file
    }

    #[test]
    fn what_is_cut_reads_as_zeros_and_is_reported() {
        let file = megabyte();
        let map = Mapping::open(file.path()).expect("a mapping");
        assert_eq!((map[0], map[(1 << 20) - 1]), (7, 7));
        file.as_file().set_len(1 << 16).expect("a cut");
        assert_eq!(map[100], 7);
        map.check().expect("nothing that was read is missing");
        assert_eq!(map[(1 << 20) - 1], 0);
        assert_eq!(map[(1 << 16) + 1], 0);
        assert!(map.check().is_err());
    }

    #[test]
    fn mappings_are_apart_and_places_are_used_again() {
        for _ in 0..3 {
            let (a, b) = (megabyte(), megabyte());
            let maps = [a.path(), b.path()].map(|path| Mapping::open(path).expect("a mapping"));
            a.as_file().set_len(0).expect("a cut");
            assert_eq!((maps[0][5], maps[1][5]), (0, 7));
            assert!(maps[0].check().is_err());
            maps[1].check().expect("the other is whole");
        }
    }

    #[test]
    fn an_empty_file_has_no_bytes() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert!(Mapping::open(file.path()).expect("a mapping").is_empty());
        assert!(Mapping::open(std::path::Path::new("/")).is_err());
        drop(File::open(file.path()));
    }
}
