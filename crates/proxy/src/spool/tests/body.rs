//! The whole body: collected once, read by every attempt.

use super::*;

const MEMORY: u64 = 2 * BLOCK as u64;
const DISK: u64 = 5 * BLOCK as u64;

/// Collects `n` bytes in pieces of odd lengths.
async fn collect<P: Place>(builder: &mut BodyBuilder<P>, n: usize) -> io::Result<SpooledBody<P>> {
    let mut at = 0;
    while at < n {
        let here = builder.room().min(n - at).min(7_777);
        builder.push(&bytes(at as u64, here));
        at += here;
        if here == 0 {
            assert!(!builder.is_full(), "full at {at}");
            poll_fn(|cx| builder.poll_progress(cx)).await?;
        }
    }
    poll_fn(|cx| builder.poll_finish(cx)).await
}

async fn read<P: Place>(reader: &mut BodyReader<P>, until: u64) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while reader.len() > until {
        let n = reader.front().len().min(3_333);
        all.extend_from_slice(&reader.front()[..n]);
        reader.consume(n);
        if n == 0 {
            poll_fn(|cx| reader.poll_progress(cx)).await?;
        }
    }
    Ok(all)
}

#[test]
fn every_attempt_reads_the_same_body() {
    for n in [
        0,
        1,
        MEMORY as usize,
        MEMORY as usize + 1,
        MEMORY as usize + BLOCK,
        (MEMORY + DISK) as usize - 1,
        (MEMORY + DISK) as usize,
    ] {
        on_core(move || async move {
            let mut builder = BodyBuilder::at(MEMORY, DISK, Shaky::new(u64::MAX));
            let body = collect(&mut builder, n).await.unwrap();
            drop(builder);
            assert_eq!(body.len(), n as u64);
            assert_eq!(body.is_empty(), n == 0);
            // An attempt that ends in the middle, and two more.
            let mut first = body.reader();
            let some = read(&mut first, n as u64 / 3).await.unwrap();
            assert!(some == bytes(0, some.len()));
            drop(first);
            for _ in 0..2 {
                let mut reader = body.clone().reader();
                assert!(read(&mut reader, 0).await.unwrap() == bytes(0, n));
                assert!(reader.is_empty() && reader.front().is_empty());
            }
        });
    }
}

#[test]
fn a_body_beyond_both_bounds_is_told_apart_from_a_busy_disk() {
    on_core(|| async {
        let mut builder = BodyBuilder::at(MEMORY, DISK, Shaky::new(u64::MAX));
        let mut n = 0;
        while !builder.is_full() {
            let room = builder.room();
            builder.push(&bytes(n, room));
            n += room as u64;
            if room == 0 {
                poll_fn(|cx| builder.poll_progress(cx)).await.unwrap();
            }
        }
        assert_eq!(n, MEMORY + DISK);
        assert_eq!(builder.room(), 0);
    });
}

#[test]
fn a_full_disk_cannot_keep_the_body() {
    on_core(|| async {
        let mut builder = BodyBuilder::at(MEMORY, DISK, Shaky::new(BLOCK as u64 + 5));
        let failed = collect(&mut builder, (MEMORY + DISK) as usize).await;
        assert_eq!(failed.err().map(|e| e.kind()), Some(ErrorKind::StorageFull));
    });
}

#[test]
fn a_body_that_cannot_be_read_back_is_an_error() {
    on_core(|| async {
        let place = Shaky::new(u64::MAX);
        let plan = Arc::clone(&place.0);
        let mut builder = BodyBuilder::at(MEMORY, DISK, place);
        let body = collect(&mut builder, (MEMORY + DISK) as usize)
            .await
            .unwrap();
        assert!(body.spilled_bytes() >= 4 * BLOCK as u64);
        plan.unreadable.store(true, Ordering::Relaxed);
        assert!(read(&mut body.reader(), 0).await.is_err());
    });
}

#[test]
fn a_real_directory_does() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    on_core(move || async move {
        let mut builder = BodyBuilder::new(0, DISK, &path);
        let body = collect(&mut builder, DISK as usize).await.unwrap();
        assert!(read(&mut body.reader(), 0).await.unwrap() == bytes(0, DISK as usize));
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
    });
}
