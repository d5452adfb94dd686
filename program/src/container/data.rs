//! Bytes that a program refers to.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// Makes those of the bytes that lie in a range.
type Make<'a> = Arc<dyn Fn(Range<usize>) -> io::Result<Vec<u8>> + Send + Sync + 'a>;

/// A run of bytes: borrowed (from a mapped file, say), owned, or made each time they are asked for, piece by piece. The last kind lets
/// a writer go through weights that are larger than the memory.
#[derive(Clone)]
pub struct Data<'a>(Source<'a>);

#[derive(Clone)]
enum Source<'a> {
    Here(Cow<'a, [u8]>),
    Made { len: u64, make: Make<'a> },
}

impl<'a> Data<'a> {
    /// Bytes that lie elsewhere.
    #[must_use]
    pub fn borrowed(bytes: &'a [u8]) -> Self {
        Self(Source::Here(Cow::Borrowed(bytes)))
    }

    /// Bytes that are kept here.
    #[must_use]
    pub fn owned(bytes: Vec<u8>) -> Self {
        Self(Source::Here(Cow::Owned(bytes)))
    }

    /// `len` bytes, of which `make` makes any range: the same bytes at every call, and from any thread.
    pub fn made(
        len: u64,
        make: impl Fn(Range<usize>) -> io::Result<Vec<u8>> + Send + Sync + 'a,
    ) -> Self {
        Self(Source::Made {
            len,
            make: Arc::new(make),
        })
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &self.0 {
            Source::Here(bytes) => bytes.len() as u64,
            Source::Made { len, .. } => *len,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, if they are there without being made. All bytes that come from reading a file are.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        match &self.0 {
            Source::Here(bytes) => Some(bytes),
            Source::Made { .. } => None,
        }
    }

    /// The bytes, with the lifetime of the file that they are borrowed from.
    #[must_use]
    pub fn as_borrowed(&self) -> Option<&'a [u8]> {
        match &self.0 {
            Source::Here(Cow::Borrowed(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The bytes, made if need be.
    ///
    /// # Errors
    /// What making them reports, or that it made another number of bytes than promised.
    pub fn bytes(&self) -> io::Result<Cow<'_, [u8]>> {
        let len =
            usize::try_from(self.len()).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        self.range(0..len)
    }

    /// Those of the bytes that lie in `range`, made if need be.
    ///
    /// # Errors
    /// What making them reports, that it made another number of bytes than asked for, or a range that is not within the bytes.
    pub fn range(&self, range: Range<usize>) -> io::Result<Cow<'_, [u8]>> {
        let wrong = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
        if range.start > range.end || range.end as u64 > self.len() {
            return Err(wrong(format!(
                "bytes {}..{} of {}",
                range.start,
                range.end,
                self.len()
            )));
        }
        match &self.0 {
            Source::Here(bytes) => Ok(Cow::Borrowed(bytes.get(range).unwrap_or_default())),
            Source::Made { make, .. } => {
                let bytes = make(range.clone())?;
                if bytes.len() != range.len() {
                    return Err(wrong(format!(
                        "{} bytes were promised, {} were made",
                        range.len(),
                        bytes.len()
                    )));
                }
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Data({} bytes)", self.len())
    }
}

/// Equal if both are there and have the same bytes; bytes that would have to be made equal nothing.
impl PartialEq for Data<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice()
            .is_some_and(|bytes| other.as_slice() == Some(bytes))
    }
}
