//! `*` and `?` in file names.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::files::FileSystem;

/// Whether a path asks for more than itself.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?'])
}

/// Whether `name` fits `pattern`: `*` is any run of characters, `?` any one. A leading dot wants to be written.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to take up again when a later part does not fit: the last `*`, and how much of the name it has eaten.
    let mut star: Option<(usize, usize)> = None;
    while let Some(character) = name.get(n) {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == '?' || wanted == character => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, eaten)) => {
                    star = Some((at, eaten + 1));
                    p = at + 1;
                    n = eaten + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|rest| *rest == '*')
}

/// Every file below `directory` that fits, sorted by path; at most `limit + 1` of them, so that the caller sees that there are too many.
pub(super) fn expand(
    files: &dyn FileSystem,
    directory: &Path,
    pattern: &Path,
    limit: usize,
) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![directory.to_owned()];
    let parts: Vec<Component<'_>> = pattern.components().collect();
    for (index, part) in parts.iter().enumerate() {
        let last = index + 1 == parts.len();
        let text = part.as_os_str().to_string_lossy();
        if !is_pattern(&text) {
            for path in &mut found {
                path.push(part);
            }
            continue;
        }
        let mut next = Vec::new();
        for directory in found {
            let mut entries = match files.list(&directory) {
                Ok(entries) => entries,
                // A directory that is missing has no files; one that may not be read is worth telling.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => continue,
                Err(error) => return Err(error),
            };
            entries.sort();
            let fitting = entries
                .into_iter()
                .filter(|entry| entry.is_dir != last && matches(&text, &entry.name));
            next.extend(fitting.map(|entry| directory.join(entry.name)));
            if next.len() > limit {
                break;
            }
        }
        found = next;
    }
    // `sites-*/site.kdl`: the last part is literal, so whether it is there has not been asked yet.
    if !parts
        .last()
        .is_some_and(|part| is_pattern(&part.as_os_str().to_string_lossy()))
    {
        found.retain(|path| files.read(path, 1).is_ok());
    }
    found.sort();
    found.truncate(limit + 1);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::MemoryFiles;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, name, fits) in [
            ("*.kdl", "a.kdl", true),
            ("*.kdl", "a.kdl~", false),
            ("*.kdl", ".hidden.kdl", false),
            (".*.kdl", ".hidden.kdl", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "a__b__b__c", true),
            ("a*b*c", "a__c__b", false),
            ("*", "", true),
            ("**a", "banana", true),
            ("?", "\u{e9}", true),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn stars_in_the_directory_itself_are_names() {
        let files = MemoryFiles::new([("a*/x.kdl", ""), ("ab/y.kdl", "")]);
        let found = expand(&files, Path::new("a*"), Path::new("?.kdl"), 10).unwrap();
        assert_eq!(found, [PathBuf::from("a*/x.kdl")]);
    }

    #[test]
    fn patterns_in_directories() {
        let files = MemoryFiles::new([
            ("b/x/s.kdl", ""),
            ("a/x/s.kdl", ""),
            ("a/y/t.kdl", ""),
            ("a/s.kdl", ""),
        ]);
        let found = expand(&files, Path::new(""), Path::new("*/x/s.kdl"), 10).unwrap();
        assert_eq!(
            found,
            [PathBuf::from("a/x/s.kdl"), PathBuf::from("b/x/s.kdl")]
        );
        assert_eq!(
            expand(&files, Path::new(""), Path::new("a/*/*.kdl"), 10)
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            expand(&files, Path::new(""), Path::new("a/*"), 10).unwrap(),
            [PathBuf::from("a/s.kdl")]
        );
        assert!(
            expand(&files, Path::new(""), Path::new("none/*.kdl"), 10)
                .unwrap()
                .is_empty()
        );
    }
}
