//! The write-ahead log as a crash has left it, looked at before SQLite does.
//!
//! SQLite takes a log's valid beginning for all of it: after damage it would go on as if what came later had never
//! been committed. Its index, which lies beside the log and outlives the process, knows how much there was.
//! Formats: <https://sqlite.org/fileformat2.html#walformat>, <https://sqlite.org/walformat.html>.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    path::Path,
};

use super::open::beside;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// The other magic number, odd, says that checksums are of big-endian words.
const MAGIC: u32 = 0x377f_0682;
const INDEX_HEADER_BYTES: usize = 48;

/// What can be said of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Everything that was committed is there.
    Whole,
    /// Nobody knows how much there was.
    Unknown,
    /// So many pages are there, of so many.
    Cut { found: u32, of: u32 },
    /// It is no log any more.
    Unreadable,
}

/// Looks at the log beside the database `path`.
pub(super) fn examine(path: &Path) -> io::Result<Left> {
    let log = match File::open(beside(path, "-wal")) {
        Ok(file) => Log::read(BufReader::with_capacity(1 << 18, file))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Log::Empty,
        Err(error) => return Err(error),
    };
    let index = match fs::read(beside(path, "-shm")) {
        Ok(bytes) => Index::of(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(match (log, index) {
        (Log::Unreadable, _) => Left::Unreadable,
        (_, None) => Left::Unknown,
        // Begun anew, and nothing written yet: before that, all was copied to the database.
        (_, Some(Index { frames: 0, .. })) => Left::Whole,
        (Log::Empty, Some(index)) => Left::Cut { found: 0, of: index.frames },
        (Log::Frames { salts, committed }, Some(index)) => {
            let found = if salts == index.salts { committed } else { 0 };
            if found >= index.frames { Left::Whole } else { Left::Cut { found, of: index.frames } }
        }
    })
}

enum Log {
    Empty,
    Unreadable,
    Frames {
        salts: [u8; 8],
        /// Number of the last valid frame that ends a transaction.
        committed: u32,
    },
}

/// What the header of the index says.
struct Index {
    frames: u32,
    salts: [u8; 8],
}

impl Index {
    /// `None` where it says nothing.
    fn of(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..INDEX_HEADER_BYTES)?;
        let is_initialised = header[12] == 1;
        let frames = u32::from_ne_bytes(header[16..20].try_into().ok()?);
        let salts = header[32..40].try_into().ok()?;
        is_initialised.then_some(Self { frames, salts })
    }
}

impl Log {
    fn read(mut file: impl Read) -> io::Result<Self> {
        let mut header = [0; HEADER_BYTES];
        if !fill(&mut file, &mut header)? {
            // A file that was never written, or cut within its first sector.
            return Ok(if header == [0; HEADER_BYTES] { Log::Empty } else { Log::Unreadable });
        }
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let mut sums = Checksum { big_endian: word(0) & 1 == 1, sums: (0, 0) };
        sums.add(&header[..24]);
        let page_bytes = word(8) as usize;
        if word(0) & !1 != MAGIC
            || sums.sums != (word(24), word(28))
            || !page_bytes.is_power_of_two()
            || page_bytes > 65_536
        {
            return Ok(Log::Unreadable);
        }
        let salts: [u8; 8] = header[16..24].try_into().expect("eight of 24 bytes");
        let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
        let (mut number, mut committed) = (0, 0);
        while fill(&mut file, &mut frame)? {
            let word =
                |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
            sums.add(&frame[..8]);
            sums.add(&frame[FRAME_HEADER_BYTES..]);
            if frame[8..16] != salts || sums.sums != (word(16), word(20)) {
                break;
            }
            number += 1;
            // The size of the database after a transaction stands in its last frame only.
            if word(4) != 0 {
                committed = number;
            }
        }
        Ok(Log::Frames { salts, committed })
    }
}

/// SQLite's checksum: goes on from frame to frame.
struct Checksum {
    big_endian: bool,
    sums: (u32, u32),
}

impl Checksum {
    fn add(&mut self, bytes: &[u8]) {
        let (mut first, mut second) = self.sums;
        for pair in bytes.as_chunks::<8>().0 {
            let [a, b, c, d, e, f, g, h] = *pair;
            let word = if self.big_endian { u32::from_be_bytes } else { u32::from_le_bytes };
            first = first.wrapping_add(word([a, b, c, d])).wrapping_add(second);
            second = second.wrapping_add(word([e, f, g, h])).wrapping_add(first);
        }
        self.sums = (first, second);
    }
}

/// Whether there was as much as that to read.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
