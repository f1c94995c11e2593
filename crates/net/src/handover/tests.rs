use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use proptest::prelude::*;

use super::*;

/// Descriptors that can be told apart: files with a number in them.
fn numbered(count: usize) -> Vec<OwnedFd> {
    (0..count)
        .map(|n| {
            let fd = memfd_create("n", MemfdFlags::CLOEXEC).unwrap();
            let file = File::from(fd);
            file.write_all_at(&(n as u64).to_be_bytes(), 0).unwrap();
            file.into()
        })
        .collect()
}

fn number_in(fd: &OwnedFd) -> u64 {
    let mut bytes = [0; 8];
    let file = File::from(fd.try_clone().unwrap());
    file.read_exact_at(&mut bytes, 0).unwrap();
    u64::from_be_bytes(bytes)
}

fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(|fd| fd.as_fd()).collect()
}

/// Sends on a thread of its own: a parcel may be more than the channel holds.
fn across(text: &[u8], fds: &[OwnedFd]) -> io::Result<Parcel> {
    let (ours, theirs) = channel().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&ours, text, &borrowed(fds)).unwrap());
        receive(&theirs)
    })
}

#[test]
fn three_hundred_sockets_arrive_in_order() {
    let fds = numbered(300);
    let parcel = across(b"the manifest", &fds).unwrap();
    assert_eq!(parcel.text, b"the manifest");
    let numbers: Vec<u64> = parcel.sockets.iter().map(number_in).collect();
    assert_eq!(numbers, (0..300).collect::<Vec<_>>());
    for fd in &parcel.sockets {
        let flags = rustix::io::fcntl_getfd(fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
}

#[test]
fn a_large_text_and_an_empty_one() {
    let large = vec![b'x'; 5 << 20];
    assert_eq!(across(&large, &[]).unwrap().text, large);
    let empty = across(b"", &numbered(1)).unwrap();
    assert!(empty.text.is_empty() && empty.sockets.len() == 1);
}

#[test]
fn parcels_follow_each_other() {
    let (ours, theirs) = channel().unwrap();
    let fds = numbered(2);
    send(&ours, b"one", &borrowed(&fds)).unwrap();
    send(&ours, b"two", &[]).unwrap();
    send(&theirs, b"back", &[]).unwrap();
    assert_eq!(receive(&theirs).unwrap().sockets.len(), 2);
    assert_eq!(receive(&theirs).unwrap().text, b"two");
    assert_eq!(receive(&ours).unwrap().text, b"back");
}

#[test]
fn the_end_of_the_other_side_is_noticed_at_every_step() {
    let fds = numbered(300);
    let text = memfd_create("t", MemfdFlags::CLOEXEC).unwrap();
    let head = Head {
        text: 0,
        sockets: 300,
    };
    for sent in 0..3 {
        let (ours, theirs) = channel().unwrap();
        if sent > 0 {
            send_message(&ours, &head.bytes(), &[text.as_fd()]).unwrap();
        }
        if sent > 1 {
            let first = borrowed(&fds);
            send_message(&ours, &0u32.to_be_bytes(), &first[..PER_MESSAGE]).unwrap();
        }
        drop(ours);
        let error = receive(&theirs).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "after {sent}");
    }
}

#[test]
fn nobody_there_is_an_error_not_a_signal() {
    let (ours, theirs) = channel().unwrap();
    drop(theirs);
    assert_eq!(
        send(&ours, b"x", &[]).unwrap_err().kind(),
        io::ErrorKind::BrokenPipe
    );
}

#[test]
fn silence_ends() {
    let (ours, _theirs) = channel().unwrap();
    set_patience(&ours, Some(Duration::from_millis(20))).unwrap();
    assert_eq!(
        receive(&ours).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn what_is_cut_or_made_up_is_refused() {
    let text = |bytes: &[u8]| {
        let file = File::from(memfd_create("t", MemfdFlags::CLOEXEC).unwrap());
        file.write_all_at(bytes, 0).unwrap();
        OwnedFd::from(file)
    };
    let head = |text, sockets| Head { text, sockets }.bytes().to_vec();
    let refused = |bytes: &[u8], fds: &[OwnedFd]| {
        let (ours, theirs) = channel().unwrap();
        send_message(&ours, bytes, &borrowed(fds)).unwrap();
        drop(ours);
        let error = receive(&theirs).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
    };
    refused(&head(9, 0), &[text(b"four")]);
    refused(&head(3, 0), &[text(b"four")]);
    refused(&head(0, 0), &[]);
    refused(&head(0, 0), &numbered(2));
    refused(&head(MOST_TEXT + 1, 0), &[text(b"")]);
    refused(&head(0, MOST_SOCKETS as u32 + 1), &[text(b"")]);
    refused(&head(0, 0)[..15], &[text(b"")]);
    refused(&[head(0, 0), vec![0]].concat(), &[text(b"")]);
    refused(b"GET / HTTP/1.1\r\n", &[text(b"")]);
}

#[test]
fn a_wrong_number_of_descriptors_is_refused() {
    let fds = numbered(4);
    for (number, count) in [(0u32, 2), (0, 4), (1, 3)] {
        let (ours, theirs) = channel().unwrap();
        let text = memfd_create("t", MemfdFlags::CLOEXEC).unwrap();
        let head = Head {
            text: 0,
            sockets: 3,
        };
        send_message(&ours, &head.bytes(), &[text.as_fd()]).unwrap();
        send_message(&ours, &number.to_be_bytes(), &borrowed(&fds)[..count]).unwrap();
        assert_eq!(
            receive(&theirs).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
    }
}

#[test]
fn more_than_a_parcel_may_have_is_not_sent() {
    let (ours, _theirs) = channel().unwrap();
    let one = numbered(1);
    let many = vec![one[0].as_fd(); MOST_SOCKETS + 1];
    assert!(send(&ours, b"", &many).is_err());
}

#[test]
fn a_channel_is_known_from_other_descriptors() {
    let (ours, _theirs) = channel().unwrap();
    assert!(is_channel(ours.as_fd()));
    let file = File::open("/dev/null").unwrap();
    assert!(!is_channel(file.as_fd()));
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(!is_channel(stream.as_fd()));
}

#[test]
fn nothing_stays_open_when_a_parcel_fails() {
    // A stream tells when its other end has gone.
    let (lent, mut other) = std::os::unix::net::UnixStream::pair().unwrap();
    other
        .set_read_timeout(Some(crate::testing::PATIENCE))
        .unwrap();
    let (ours, theirs) = channel().unwrap();
    let text = memfd_create("t", MemfdFlags::CLOEXEC).unwrap();
    let head = Head {
        text: 0,
        sockets: 2,
    };
    send_message(&ours, &head.bytes(), &[text.as_fd()]).unwrap();
    send_message(&ours, &0u32.to_be_bytes(), &[lent.as_fd()]).unwrap();
    drop(lent);
    assert!(receive(&theirs).is_err());
    drop((ours, theirs));
    assert_eq!(std::io::Read::read(&mut other, &mut [0]).unwrap(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn anything_arrives_as_it_was(text in prop::collection::vec(any::<u8>(), 0..10_000), count in 0usize..600) {
        let one = numbered(1);
        let fds: Vec<OwnedFd> = (0..count).map(|_| one[0].try_clone().unwrap()).collect();
        let parcel = across(&text, &fds).unwrap();
        prop_assert_eq!(parcel.text, text);
        prop_assert_eq!(parcel.sockets.len(), count);
        let inode = |fd: &OwnedFd| File::from(fd.try_clone().unwrap()).metadata().unwrap().ino();
        prop_assert!(parcel.sockets.iter().all(|fd| inode(fd) == inode(&one[0]) && fd.as_raw_fd() > 2));
    }

    #[test]
    fn a_head_is_read_as_written_and_nothing_else(text in 0..=MOST_TEXT, sockets in 0..=MOST_SOCKETS as u32, cut in 0usize..16) {
        let head = Head { text, sockets };
        let bytes = head.bytes();
        prop_assert_eq!(Head::read(&bytes[..cut]), None);
        prop_assert_eq!(Head::read(&bytes), Some(head));
    }
}
