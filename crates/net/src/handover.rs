//! What one process gives another over a pair of sockets: a text and open descriptors (`SCM_RIGHTS`), as one parcel.
//!
//! A parcel is a head (16 bytes and one descriptor, a file in memory with the text), then messages with the descriptors, at
//! most [`PER_MESSAGE`] each. Messages keep their bounds (`SOCK_SEQPACKET`), so nothing has to be searched for; whoever
//! ends in the middle is noticed.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg,
    sendmsg, socketpair,
};
use socket2::SockRef;

/// Descriptors in a parcel, at most.
pub const MOST_SOCKETS: usize = 4_096;
/// Bytes of a parcel's text, at most.
pub const MOST_TEXT: u64 = 64 << 20;
/// Descriptors in one message: the kernel's own bound (`SCM_MAX_FD`).
const PER_MESSAGE: usize = 253;
/// Begins every head; the last byte is the version of this form.
const MAGIC: [u8; 4] = *b"nxh1";

/// What is handed over at once.
#[derive(Debug, Default)]
pub struct Parcel {
    /// What there is to say.
    pub text: Vec<u8>,
    /// Open descriptors, in an order that the text explains.
    pub sockets: Vec<OwnedFd>,
}

impl Parcel {
    /// A parcel without descriptors.
    pub fn text(text: Vec<u8>) -> Self {
        Self {
            text,
            sockets: Vec::new(),
        }
    }
}

/// A new channel: two ends, closed on `exec` unless made a standard stream of the child.
pub fn channel() -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((a, b))
}

/// Is this descriptor one end of a channel?
pub fn is_channel(fd: BorrowedFd<'_>) -> bool {
    SockRef::from(&fd)
        .r#type()
        .is_ok_and(|kind| kind == socket2::Type::SEQPACKET)
}

/// How long a [`send`] or [`receive`] waits for the other side to take or to say the next message; none is for ever.
pub fn set_patience(channel: &OwnedFd, patience: Option<Duration>) -> io::Result<()> {
    let socket = SockRef::from(channel);
    socket.set_read_timeout(patience)?;
    socket.set_write_timeout(patience)
}

/// Hands a parcel over. Blocks while the other side does not take it.
pub fn send(channel: &OwnedFd, text: &[u8], sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    if text.len() as u64 > MOST_TEXT || sockets.len() > MOST_SOCKETS {
        return Err(invalid("more than a parcel may have"));
    }
    let mut file = File::from(memfd_create("narthex-handover", MemfdFlags::CLOEXEC)?);
    file.write_all(text)?;
    let head = Head {
        text: text.len() as u64,
        sockets: sockets.len() as u32,
    };
    send_message(channel, &head.bytes(), &[file.as_fd()])?;
    for (number, some) in (0u32..).zip(sockets.chunks(PER_MESSAGE)) {
        send_message(channel, &number.to_be_bytes(), some)?;
    }
    Ok(())
}

/// Takes the next parcel. Blocks until it is whole. `UnexpectedEof` when the other side has ended.
pub fn receive(channel: &OwnedFd) -> io::Result<Parcel> {
    let mut bytes = [0; Head::SIZE];
    let (length, mut fds) = receive_message(channel, &mut bytes)?;
    let head = bytes.get(..length).and_then(Head::read);
    let (Some(head), Some(file), true) = (head, fds.pop(), fds.is_empty()) else {
        return Err(invalid("this is no parcel"));
    };
    let text = read_text(&File::from(file), head.text)?;
    let wanted = head.sockets as usize;
    let mut sockets = Vec::with_capacity(wanted);
    let mut number = 0u32;
    while sockets.len() < wanted {
        let mut bytes = [0; 5];
        let (length, mut fds) = receive_message(channel, &mut bytes)?;
        let expected = (wanted - sockets.len()).min(PER_MESSAGE);
        if bytes.get(..length) != Some(&number.to_be_bytes()[..]) || fds.len() != expected {
            return Err(invalid("descriptors are missing"));
        }
        sockets.append(&mut fds);
        number += 1;
    }
    Ok(Parcel { text, sockets })
}

/// By position: the sender and we share the file's own.
fn read_text(file: &File, length: u64) -> io::Result<Vec<u8>> {
    if file.metadata()?.len() != length {
        return Err(invalid("the text is cut"));
    }
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}

/// The head of a parcel.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    text: u64,
    sockets: u32,
}

impl Head {
    const SIZE: usize = 16;

    fn bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let parts = MAGIC
            .into_iter()
            .chain(self.text.to_be_bytes())
            .chain(self.sockets.to_be_bytes());
        for (place, byte) in bytes.iter_mut().zip(parts) {
            *place = byte;
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (text, sockets) = rest.split_first_chunk::<8>()?;
        let head = Self {
            text: u64::from_be_bytes(*text),
            sockets: u32::from_be_bytes(*sockets.first_chunk::<4>()?),
        };
        let bounded = head.text <= MOST_TEXT && head.sockets as usize <= MOST_SOCKETS;
        (*magic == MAGIC && bounded && bytes.len() == Self::SIZE).then_some(head)
    }
}

fn send_message(channel: &OwnedFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(invalid("too many descriptors in a message"));
        }
        let flags = SendFlags::NOSIGNAL;
        match sendmsg(channel, &[IoSlice::new(bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn receive_message(channel: &OwnedFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PER_MESSAGE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(channel, &mut [IoSliceMut::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if got
        .flags
        .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC)
    {
        return Err(invalid(
            "a message is cut; is the limit of open files reached?",
        ));
    }
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((got.bytes, fds))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
