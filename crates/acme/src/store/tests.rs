use std::os::unix::fs::PermissionsExt;

use super::*;

fn open(dir: &tempfile::TempDir) -> Directory {
    Directory::open(&dir.path().join("store")).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn only_we_may_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let place = Place::new("certificates", "a.example");
    store.save(&place, b"secret").unwrap();
    assert_eq!(mode(&dir.path().join("store")), 0o700);
    assert_eq!(mode(&dir.path().join("store/certificates")), 0o700);
    let file = dir.path().join("store/certificates/a.example.json");
    assert_eq!(mode(&file), 0o600);
    assert_eq!(store.load(&place).unwrap().unwrap(), b"secret");

    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
    let error = store.load(&place).unwrap_err().to_string();
    assert!(
        error.contains("mode 640") && error.contains("chmod go="),
        "{error}"
    );
    let root = dir.path().join("store");
    std::fs::set_permissions(&root, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(
        Directory::open(&root).is_ok(),
        "others may see that it is there"
    );
    std::fs::set_permissions(&root, PermissionsExt::from_mode(0o770)).unwrap();
    assert!(matches!(
        Directory::open(&root),
        Err(StoreError::Open { mode: 0o770, .. })
    ));
    let folder = dir.path().join("store/certificates");
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o750)).unwrap();
    let error = store.save(&place, b"new").unwrap_err();
    assert!(
        matches!(error, StoreError::Open { mode: 0o750, .. }),
        "{error}"
    );
}

#[test]
fn names_have_places_of_their_own() {
    let (long, longer) = ("a".repeat(253), format!("{}b", "a".repeat(252)));
    let names = [
        "a.example",
        "*.a.example",
        "_.a.example",
        "A.example",
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "a\0b",
        "lock",
        "https://ca.example/directory",
        "https://ca.example/Directory",
        "2001:db8::1",
        &long,
        &longer,
    ];
    let mut files: Vec<String> = names.iter().map(|n| Place::new("x", n).file).collect();
    for file in &files {
        let sound = !file.contains('/') && !file.starts_with('.') && file.len() < 200;
        assert!(sound, "{file}");
    }
    files.sort();
    files.dedup();
    assert_eq!(files.len(), names.len());
}

#[tokio::test]
async fn what_is_broken_is_kept_aside_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::new(Arc::new(open(&dir)));
    let place = Place::new("attempts", "a.example");
    let file = dir.path().join("store/attempts/a.example.json");
    let value = crate::renew::Memory {
        failures: 3,
        ..Default::default()
    };
    let broken: [(&[u8], &str); 4] = [
        (b"", "it is empty"),
        (&[0; 40], "40 bytes, all of them NUL"),
        (b"{\"failures\": 3, \"not", "it ends in the middle"),
        (b"[]", "invalid length"),
    ];
    for (n, (bytes, why)) in broken.into_iter().enumerate() {
        store.save(place.clone(), &value).await.unwrap();
        std::fs::write(&file, bytes).unwrap();
        let loaded = store.load::<crate::renew::Memory>(place.clone()).await;
        let error = loaded.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
        let kept = format!("store/attempts/a.example.json.broken-{}", n + 1);
        assert_eq!(std::fs::read(dir.path().join(kept)).unwrap(), bytes);
        assert!(!file.exists());
        let loaded = store.load::<crate::renew::Memory>(place.clone()).await;
        assert!(loaded.unwrap().is_none());
    }
}

#[test]
fn nothing_is_never_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let place = Place::new("x", "a");
    store.save(&place, b"old").unwrap();
    assert!(store.save(&place, b"").is_err());
    assert_eq!(store.load(&place).unwrap().unwrap(), b"old");
}

#[test]
fn one_process_owns_it() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (open(&dir), open(&dir));
    assert!(one.own().unwrap());
    assert!(one.own().unwrap());
    assert!(!two.own().unwrap());
    // An end in the middle of a write: the next owner clears it away.
    one.save(&Place::new("x", "a"), b"a").unwrap();
    let left = dir.path().join("store/x/.new-b.json");
    std::fs::write(&left, b"half").unwrap();
    drop(one);
    assert!(two.own().unwrap());
    assert!(!left.exists());
    assert_eq!(two.load(&Place::new("x", "a")).unwrap().unwrap(), b"a");
}

#[test]
fn writers_of_one_place_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let place = Place::new("x", "a");
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let (store, place) = (&store, &place);
            scope.spawn(move || {
                for _ in 0..50 {
                    store.save(place, &[n; 1000]).unwrap();
                    let read = store.load(place).unwrap().unwrap();
                    assert!(read.len() == 1000 && read.iter().all(|b| *b == read[0]));
                }
            });
        }
    });
}

/// A file system that is really full; mounting one takes root.
#[test]
fn a_full_disk_leaves_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k,mode=700", "none", at])
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("not tried: only root may mount a file system");
        return;
    }
    let result = std::panic::catch_unwind(|| {
        let store = Directory::open(dir.path()).unwrap();
        let place = Place::new("certificates", "a.example");
        store.save(&place, b"the one that serves").unwrap();
        let error = store
            .save(&place, &vec![b'x'; 100_000])
            .unwrap_err()
            .to_string();
        assert!(error.contains("make room there"), "{error}");
        assert_eq!(store.load(&place).unwrap().unwrap(), b"the one that serves");
        // What did not fit does not stay and fill the disk.
        store.save(&place, b"the next").unwrap();
        assert_eq!(store.load(&place).unwrap().unwrap(), b"the next");
    });
    let _ = std::process::Command::new("umount").arg(at).status();
    result.unwrap();
}
