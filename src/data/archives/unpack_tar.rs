//! `.tar.gz`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Result, bail};
use flate2::bufread::GzDecoder;

use super::{Budget, Sink, explain};

/// Buffer between disk and decoder, in bytes.
const BUFFER: usize = 1 << 20;

/// The content of a gzip file: all of its members one after another, as parallel compressors write it. What follows them
/// is ignored, as gzip does.
pub(super) struct Gunzip<R: BufRead> {
    /// `None` when all is read.
    member: Option<GzDecoder<R>>,
}

impl Gunzip<BufReader<File>> {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)?;
        Ok(Self { member: Some(GzDecoder::new(BufReader::with_capacity(BUFFER, file))) })
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let n = member.read(buffer)?;
            if n > 0 || buffer.is_empty() {
                return Ok(n);
            }
            let Some(member) = self.member.take() else { break };
            let mut rest = member.into_inner();
            if rest.fill_buf()?.first() == Some(&0x1f) {
                self.member = Some(GzDecoder::new(rest));
            }
        }
        Ok(0)
    }
}

/// Writes all entries of a `.tar.gz` to the sink.
pub(super) fn unpack(archive: &Path, sink: &mut Sink<'_>, budget: &mut Budget) -> Result<()> {
    let mut tar = tar::Archive::new(Gunzip::open(archive)?);
    for entry in tar.entries().map_err(explain)? {
        let mut entry = entry.map_err(explain)?;
        let path = entry.path().map_err(explain)?.into_owned();
        let declared = entry.size();
        budget.charge(declared)?;
        match entry.header().entry_type() {
            tar::EntryType::Directory => sink.make_folder(&path)?,
            tar::EntryType::Regular | tar::EntryType::Continuous => sink.write(&path, declared, &mut entry)?,
            tar::EntryType::XGlobalHeader => {}
            other => bail!("its entry {} is neither file nor folder ({other:?})", path.display()),
        }
    }
    // Up to the checksum at the end: a tar cut between two entries looks complete.
    io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(explain)?;
    Ok(())
}
