//! A program to a file's bytes.
//!
//! The FlatBuffers part is built in memory, it is small; the segments' bytes go from their source straight to the output, and those that
//! have to be made are made piece by piece (see [`super::stream`]). The same program gives the same bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::header::{HEADER_LEN, Header, PREFIX};
use super::pack::{Place, Places, pack_program};
use super::stream::{self, PIECE};
use super::{Data, NamedData, Payload, Program};
use crate::error::{FormatError, Within};
use crate::replace::Replacement;

/// Every segment begins at a multiple of this many bytes, in the file and from the segment base, so that what is in it can
/// be used where a mapping of the file puts it.
const SEGMENT_ALIGN: u64 = 128;
/// The same for each constant within the segment of the constants.
const CONSTANT_ALIGN: u64 = 16;
const BUFFER: usize = 1 << 20;

/// Why a file could not be written. The file at the path is then what it was before.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The program is not one that could be read back.
    #[error("the program is not well-formed: {0}")]
    Program(#[from] FormatError),
    /// The bytes with this name could not be had.
    #[error("the data {key:?} can't be read: {source}")]
    Data {
        /// The name.
        key: String,
        /// Why.
        source: io::Error,
    },
    /// What the data were read from is not whole any more.
    #[error("what is read for it is gone: {0}")]
    Source(io::Error),
    /// The output refuses bytes.
    #[error("can't write {}: {source}", path.display())]
    Output {
        /// The file that was to be written.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the file.
    pub bytes: u64,
    /// Segments in it. Data with the same bytes share one.
    pub segments: usize,
}

/// How to write.
#[derive(Clone, Copy, Default)]
pub struct WriteOptions<'o> {
    /// How many threads make bytes that have to be made: as many as there are cores, if nothing is said. No number shows in the file.
    pub threads: Option<NonZeroUsize>,
    /// Is told now and then how many bytes have been written, and of how many.
    pub progress: Option<&'o dyn Fn(u64, u64)>,
    /// Is asked before the file takes its place whether the bytes that were written were good: those of a [`crate::Mapping`] are if its file
    /// has not been cut.
    pub whole: Option<&'o dyn Fn() -> io::Result<()>>,
}

impl Program<'_> {
    /// Writes the program to a file, as [`Program::write_file_with`] does without options.
    ///
    /// # Errors
    /// As [`Program::write_file_with`].
    pub fn write_file(&self, path: &Path) -> Result<Written, WriteError> {
        self.write_file_with(path, &WriteOptions::default())
    }

    /// Writes the program to a file. The bytes go to a temporary file in the same folder, which takes the place of `path` when it is
    /// complete and on the disk; on an error it is removed. A device or a pipe is written to directly.
    ///
    /// # Errors
    /// The program does not pass [`Program::validate`], data can't be had, or the file can't be written.
    pub fn write_file_with(
        &self,
        path: &Path,
        options: &WriteOptions<'_>,
    ) -> Result<Written, WriteError> {
        let failed = |source| WriteError::Output {
            path: path.to_owned(),
            source,
        };
        // A link is followed: what it points at is replaced, not the link.
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let kind = fs::metadata(&target).map(|found| found.file_type()).ok();
        if kind.is_some_and(|kind| kind.is_dir()) {
            return Err(failed(io::Error::from(io::ErrorKind::IsADirectory)));
        }
        self.validate()?;
        let layout = Layout::of(self)?;
        // A device or a pipe can't be replaced; it takes the bytes as they come.
        if kind.is_some_and(|kind| !kind.is_file()) {
            let file = File::options().write(true).open(&target).map_err(failed)?;
            let mut out = BufWriter::with_capacity(BUFFER, file);
            layout.emit(&mut out, path, options)?;
            out.flush().map_err(failed)?;
            return Ok(layout.written());
        }
        let mut replacement = Replacement::of(&target).map_err(failed)?;
        let mut out = BufWriter::with_capacity(BUFFER, &mut replacement);
        layout.emit(&mut out, path, options)?;
        out.flush().map_err(failed)?;
        drop(out);
        options
            .whole
            .map_or(Ok(()), |whole| whole())
            .map_err(WriteError::Source)?;
        replacement.complete().map_err(failed)?;
        Ok(layout.written())
    }

    /// Writes the program's bytes to any output.
    ///
    /// # Errors
    /// As [`Program::write_file`]; the path of an output error is empty.
    pub fn write(&self, out: &mut dyn Write) -> Result<Written, WriteError> {
        self.validate()?;
        self.write_unvalidated(out)
    }

    /// Writes the program as it is, also one that no reader may accept: for what tests readers.
    ///
    /// # Errors
    /// Numbers that the format has no room for, data that can't be had, an output that refuses bytes.
    pub fn write_unvalidated(&self, out: &mut dyn Write) -> Result<Written, WriteError> {
        let layout = Layout::of(self)?;
        layout.emit(out, Path::new(""), &WriteOptions::default())?;
        Ok(layout.written())
    }
}

/// One segment's bytes, before they are written.
enum Content<'p, 'a> {
    Constants(&'p [Data<'a>]),
    Bytes { key: String, data: &'p Data<'a> },
    Blob(Vec<u8>),
}

/// Where everything goes.
struct Layout<'p, 'a> {
    header: Header,
    /// The FlatBuffers part, without the header.
    program: Vec<u8>,
    segments: Vec<(Place, Content<'p, 'a>)>,
}

impl<'p, 'a> Layout<'p, 'a> {
    fn of(program: &'p Program<'a>) -> Result<Self, WriteError> {
        let (constant_offsets, constants_size) = constant_places(&program.constants);
        let mut contents = vec![(constants_size, Content::Constants(&program.constants))];
        let mut payloads = Vec::new();
        for method in &program.methods {
            for (at, delegate) in method.delegates.iter().enumerate() {
                let place = || format!("method {:?}, delegate {at}", method.name);
                payloads.push(contents.len());
                contents.push(match &delegate.payload {
                    Payload::Mlx(graph) => {
                        let blob = graph.to_blob().within(place)?;
                        (blob.len() as u64, Content::Blob(blob))
                    }
                    Payload::Other(data) => (data.len(), Content::Bytes { key: place(), data }),
                });
            }
        }
        let mut named = Vec::with_capacity(program.named_data.len());
        for (at, first) in share(&program.named_data)?.into_iter().enumerate() {
            if first < at {
                named.push(named[first]);
                continue;
            }
            let NamedData { key, data } = &program.named_data[at];
            named.push(contents.len());
            contents.push((
                data.len(),
                Content::Bytes {
                    key: key.clone(),
                    data,
                },
            ));
        }
        let mut segments = Vec::with_capacity(contents.len());
        let mut end = 0_u64;
        for (size, content) in contents {
            let offset = end.next_multiple_of(SEGMENT_ALIGN);
            end = offset + size;
            segments.push((Place { offset, size }, content));
        }
        let places = Places {
            segments: segments.iter().map(|(segment, _)| *segment).collect(),
            constant_offsets,
            payloads,
            named,
        };
        let packed = pack_program(program, &places)?;
        let program_size = (packed.len() + HEADER_LEN) as u64;
        let segment_base = program_size.next_multiple_of(SEGMENT_ALIGN);
        let header = Header {
            program_size,
            segment_base,
            segment_data_size: Some(end),
        };
        Ok(Self {
            header,
            program: packed,
            segments,
        })
    }

    fn written(&self) -> Written {
        let bytes = self.header.segment_base + self.header.segment_data_size.unwrap_or(0);
        Written {
            bytes,
            segments: self.segments.len(),
        }
    }

    fn emit(
        &self,
        out: &mut dyn Write,
        path: &Path,
        options: &WriteOptions<'_>,
    ) -> Result<(), WriteError> {
        let total = self.written().bytes;
        let mut out = Output {
            out,
            at: 0,
            path,
            total,
            progress: options.progress,
        };
        // The root's offset counts from the file's first byte, so it grows by what is put between.
        let (prefix, rest) = self.program.split_at(PREFIX);
        let (root, identifier) = prefix.split_at(4);
        let root = root
            .iter()
            .rev()
            .fold(0_u32, |offset, byte| offset << 8 | u32::from(*byte));
        out.put(&(root + HEADER_LEN as u32).to_le_bytes())?;
        out.put(identifier)?;
        out.put(&self.header.to_bytes())?;
        out.put(rest)?;
        out.pad_to(self.header.segment_base)?;
        let data = self.segments.iter().flat_map(|(_, content)| match content {
            Content::Blob(_) => &[],
            Content::Bytes { data, .. } => std::slice::from_ref(*data),
            Content::Constants(constants) => constants,
        });
        let pieces: Vec<_> = data.flat_map(stream::pieces).collect();
        stream::made(&pieces, options.threads, |next| {
            for (segment, content) in &self.segments {
                out.pad_to(self.header.segment_base + segment.offset)?;
                match content {
                    Content::Blob(bytes) => out.put(bytes)?,
                    Content::Bytes { key, data } => out.put_data(key, data, next)?,
                    Content::Constants(constants) => {
                        let start = out.at;
                        for (at, data) in constants.iter().enumerate() {
                            let key = format!("constant {at}");
                            out.pad_to(start + (out.at - start).next_multiple_of(CONSTANT_ALIGN))?;
                            out.put_data(&key, data, next)?;
                        }
                    }
                }
            }
            Ok(())
        })
    }
}

/// An output that knows how far it is.
struct Output<'o> {
    out: &'o mut dyn Write,
    at: u64,
    path: &'o Path,
    /// How many bytes there will be, for whom it is told.
    total: u64,
    progress: Option<&'o dyn Fn(u64, u64)>,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let failed = |source| WriteError::Output {
            path: self.path.to_owned(),
            source,
        };
        self.out.write_all(bytes).map_err(failed)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Puts data that are there, or their pieces as `next` gives them.
    fn put_data(
        &mut self,
        key: &str,
        data: &Data<'_>,
        next: &mut dyn FnMut() -> io::Result<Vec<u8>>,
    ) -> Result<(), WriteError> {
        match data.as_slice() {
            Some(bytes) => {
                for piece in bytes.chunks(PIECE) {
                    self.put(piece)?;
                    self.tell();
                }
            }
            None => {
                for _ in stream::pieces(data) {
                    self.put(&next().map_err(|source| unreadable(key, source))?)?;
                    self.tell();
                }
            }
        }
        Ok(())
    }

    fn tell(&self) {
        if let Some(progress) = self.progress {
            progress(self.at, self.total);
        }
    }

    fn pad_to(&mut self, place: u64) -> Result<(), WriteError> {
        let zeros = [0; SEGMENT_ALIGN as usize];
        while self.at < place {
            let gap = usize::try_from(place - self.at)
                .unwrap_or(usize::MAX)
                .min(zeros.len());
            self.put(&zeros[..gap])?;
        }
        Ok(())
    }
}

fn unreadable(key: &str, source: io::Error) -> WriteError {
    WriteError::Data {
        key: key.to_owned(),
        source,
    }
}

/// The offsets of the constants within their segment, and its size.
fn constant_places(constants: &[Data<'_>]) -> (Vec<u64>, u64) {
    let mut end = 0_u64;
    let mut offsets = Vec::with_capacity(constants.len());
    for data in constants {
        let offset = end.next_multiple_of(CONSTANT_ALIGN);
        offsets.push(offset);
        end = offset + data.len();
    }
    (offsets, end)
}

/// For each of the data, the first one that has the same bytes (itself, mostly). Only data of equal length are looked into, and
/// wholly only those that begin and end alike.
fn share(named: &[NamedData<'_>]) -> Result<Vec<usize>, WriteError> {
    let mut by_len: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, item) in named.iter().enumerate() {
        by_len.entry(item.data.len()).or_default().push(at);
    }
    let mut first: Vec<usize> = (0..named.len()).collect();
    for same_len in by_len.values().filter(|group| group.len() > 1) {
        for alike in split(named, same_len, ends_digest)?
            .values()
            .filter(|group| group.len() > 1)
        {
            for same in split(named, alike, whole_digest)?.values() {
                for at in same {
                    first[*at] = same[0];
                }
            }
        }
    }
    Ok(first)
}

type Groups = BTreeMap<[u8; 32], Vec<usize>>;

fn split(
    named: &[NamedData<'_>],
    group: &[usize],
    digest: impl Fn(&Data<'_>) -> io::Result<[u8; 32]>,
) -> Result<Groups, WriteError> {
    let mut groups = Groups::new();
    for at in group {
        let NamedData { key, data } = &named[*at];
        let digest = digest(data).map_err(|source| unreadable(key, source))?;
        groups.entry(digest).or_default().push(*at);
    }
    Ok(groups)
}

/// The digest of the first and the last bytes.
fn ends_digest(data: &Data<'_>) -> io::Result<[u8; 32]> {
    let len = usize::try_from(data.len()).unwrap_or(usize::MAX);
    let some = len.min(4096);
    let mut hash = Sha256::new();
    hash.update(data.range(0..some)?);
    hash.update(data.range(len - some..len)?);
    Ok(hash.finalize().into())
}

/// The digest of all bytes, taken piece by piece.
fn whole_digest(data: &Data<'_>) -> io::Result<[u8; 32]> {
    let len = usize::try_from(data.len()).unwrap_or(usize::MAX);
    let mut hash = Sha256::new();
    for start in (0..len).step_by(PIECE) {
        hash.update(data.range(start..len.min(start + PIECE))?);
    }
    Ok(hash.finalize().into())
}
