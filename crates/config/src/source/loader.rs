//! Reads the main file and everything it includes into one document.
//!
//! `include "sites/*.kdl"` stands wherever a node may stand and is replaced by the nodes of the files, which are sorted
//! by path. Paths are relative to the file that includes. Every node keeps the place it came from.

use std::collections::HashMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::files::{FileSystem, RealFiles};
use super::{FileId, MAX_FILE_BYTES, Sources, Span, glob};
use crate::problem::Problem;
use crate::syntax::tree::{Document, Node, Scalar, Value};
use crate::syntax::{self, MAX_PROBLEMS};

/// Files that include files that include files.
const MAX_INCLUDE_DEPTH: usize = 16;
/// Inclusions in one configuration.
const MAX_FILES: usize = 10_000;
/// Bytes in all inclusions together.
const MAX_BYTES: usize = 64 << 20;

/// A configuration as read, before anything in it has been checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Loaded {
    /// The nodes of all files; no `include` is left.
    pub document: Document,
    /// All files. The main file is the first.
    pub sources: Sources,
    /// What went wrong.
    pub problems: Vec<Problem>,
}

/// Reads configurations from a file system. A file whose name ends in `.json` is read as JSON, any other as KDL.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loader<F = RealFiles> {
    files: F,
}

impl<F: FileSystem> Loader<F> {
    /// A loader that finds files there.
    pub fn new(files: F) -> Self {
        Self { files }
    }

    /// Reads a file and what it includes.
    pub fn load(&self, main: &Path) -> Loaded {
        let mut run = Run::new(&self.files);
        // Problems of the main file itself need a place: an empty text under its name.
        match run.read(main) {
            Ok(text) => run.main(main, text),
            Err(reason) => {
                let file = run
                    .loaded
                    .sources
                    .add(main.display().to_string(), String::new());
                let message = format!("cannot read {}: {}", main.display(), reason.message);
                run.problem(
                    Problem::error("unreadable-file", Span::new(file, 0, 0), message)
                        .with_help(reason.help),
                );
            }
        }
        run.loaded
    }

    /// Reads a text that has no file (standard input, the admin API). `name` is shown in problems, decides between KDL and
    /// JSON, and is where includes are relative to.
    pub fn load_text(&self, name: &str, text: impl Into<String>) -> Loaded {
        let mut run = Run::new(&self.files);
        run.main(
            Path::new(name),
            Content {
                text: text.into(),
                broken_at: None,
            },
        );
        run.loaded
    }
}

/// A file's text; where its bytes are not UTF-8, they have been replaced.
struct Content {
    text: String,
    broken_at: Option<usize>,
}

/// Why a file could not be read.
struct Unreadable {
    message: String,
    help: &'static str,
}

struct Run<'f> {
    files: &'f dyn FileSystem,
    loaded: Loaded,
    /// Files being read, outermost first, by normal path.
    open: Vec<PathBuf>,
    /// Files read before: they keep their id, and their mistakes are not told twice.
    known: HashMap<PathBuf, FileId>,
    inclusions: usize,
    bytes: usize,
    /// A limit was reached and reported: nothing more is read.
    exhausted: bool,
}

impl<'f> Run<'f> {
    fn new(files: &'f dyn FileSystem) -> Self {
        Self {
            files,
            loaded: Loaded::default(),
            open: Vec::new(),
            known: HashMap::new(),
            inclusions: 0,
            bytes: 0,
            exhausted: false,
        }
    }

    fn problem(&mut self, problem: Problem) {
        self.loaded.problems.push(problem);
    }

    fn main(&mut self, path: &Path, content: Content) {
        self.loaded.document.nodes = self.content(path, content, 0);
    }

    /// Parses a file that has been read, and reads what it includes.
    fn content(&mut self, path: &Path, content: Content, depth: usize) -> Vec<Node> {
        self.inclusions += 1;
        self.bytes += content.text.len();
        let identity = normal(path);
        let mut document = match self.known.get(&identity).copied() {
            Some(file) => self.again(file, path, &content, depth),
            None => self.first_time(path, &identity, content, depth),
        };
        self.open.push(identity);
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        self.expand(&mut document.nodes, &directory, depth);
        self.open.pop();
        document.nodes
    }

    fn first_time(
        &mut self,
        path: &Path,
        identity: &Path,
        content: Content,
        depth: usize,
    ) -> Document {
        let file = self
            .loaded
            .sources
            .add(path.display().to_string(), String::new());
        self.known.insert(identity.to_owned(), file);
        if let Some(at) = content.broken_at {
            self.not_utf8(file, at, &content.text);
        }
        let document = parse(file, path, &content.text, depth, &mut self.loaded.problems);
        if let Some(source) = self.loaded.sources.files.get_mut(file.0 as usize) {
            source.text = content.text;
        }
        if self.loaded.problems.len() > MAX_PROBLEMS {
            self.exhausted = true;
        }
        document
    }

    /// A file that has been read before, somewhere else. Only what depends on the place is news.
    fn again(&mut self, file: FileId, path: &Path, content: &Content, depth: usize) -> Document {
        let mut problems = Vec::new();
        let document = parse(file, path, &content.text, depth, &mut problems);
        for problem in problems {
            if problem.code == syntax::TOO_DEEP && !self.loaded.problems.contains(&problem) {
                self.problem(problem);
            }
        }
        document
    }

    fn not_utf8(&mut self, file: FileId, at: usize, text: &str) {
        let span = Span::new(file, at, (at + '\u{FFFD}'.len_utf8()).min(text.len()));
        let help = if text.contains('\0') {
            "it looks like UTF-16: save it as UTF-8"
        } else {
            "save the file as UTF-8"
        };
        self.problem(
            Problem::error("not-utf8", span, "the file is not UTF-8 from here on").with_help(help),
        );
    }

    /// Replaces every `include` in the list and below.
    fn expand(&mut self, nodes: &mut Vec<Node>, directory: &Path, depth: usize) {
        for node in nodes.iter_mut() {
            if let Some(children) = &mut node.children {
                self.expand(children, directory, depth + 1);
            }
        }
        if !nodes.iter().any(is_include) {
            return;
        }
        let mut expanded = Vec::with_capacity(nodes.len());
        for node in std::mem::take(nodes) {
            if is_include(&node) {
                self.include(&node, directory, depth, &mut expanded);
            } else {
                expanded.push(node);
            }
        }
        *nodes = expanded;
    }

    fn include(&mut self, node: &Node, directory: &Path, depth: usize, out: &mut Vec<Node>) {
        if node.args.is_empty() || !node.props.is_empty() || node.children.is_some() {
            self.problem(
                Problem::error(
                    "include",
                    node.span,
                    "`include` takes paths and nothing else",
                )
                .with_help("write include \"sites/*.kdl\""),
            );
        }
        for value in &node.args {
            if self.exhausted {
                return;
            }
            match &value.scalar {
                Scalar::String(path) if !path.is_empty() && !path.contains('\0') => {
                    self.include_path(path, value, directory, depth, out);
                }
                _ => self.problem(
                    Problem::error("include", value.span, "`include` needs the path of a file")
                        .with_help("write include \"sites/*.kdl\""),
                ),
            }
        }
    }

    fn include_path(
        &mut self,
        path: &str,
        value: &Value,
        directory: &Path,
        depth: usize,
        out: &mut Vec<Node>,
    ) {
        let joined = directory.join(path);
        if !glob::is_pattern(path) {
            out.extend(self.file(&joined, value.span, depth));
            return;
        }
        if path.split('/').any(|part| part == "**") {
            let message = "`**` does not reach into directories here";
            let help = "write one `*` for each level: include \"sites/*/*.kdl\"";
            self.problem(Problem::error("include", value.span, message).with_help(help));
            return;
        }
        match glob::expand(self.files, directory, Path::new(path), MAX_FILES) {
            Ok(found) if found.is_empty() => self.problem(
                Problem::warning("include-nothing", value.span, format!("no file matches {}", joined.display()))
                    .with_help("paths are relative to the file that includes; remove the line if this is meant"),
            ),
            Ok(found) => found.iter().for_each(|path| out.extend(self.file(path, value.span, depth))),
            Err(error) => {
                let message = format!("cannot look for {}: {}", joined.display(), reason(&error));
                self.problem(Problem::error("unreadable-file", value.span, message));
            }
        }
    }

    /// One included file.
    fn file(&mut self, path: &Path, from: Span, depth: usize) -> Vec<Node> {
        if self.exhausted || !self.may_include(path, from) {
            return Vec::new();
        }
        match self.read(path) {
            Ok(content) => self.content(path, content, depth),
            Err(reason) => {
                let message = format!("cannot read {}: {}", path.display(), reason.message);
                self.problem(
                    Problem::error("unreadable-file", from, message).with_help(reason.help),
                );
                Vec::new()
            }
        }
    }

    fn may_include(&mut self, path: &Path, from: Span) -> bool {
        let limit = |message: String| {
            Problem::error("include-limit", from, message).with_help("include less")
        };
        let problem = if self.open.contains(&normal(path)) {
            Problem::error(
                "include-cycle",
                from,
                format!("{} includes itself", path.display()),
            )
            .with_help(format!(
                "remove this include: the file is being read through {}",
                self.chain()
            ))
        } else if self.open.len() > MAX_INCLUDE_DEPTH {
            limit(format!(
                "files include files more than {MAX_INCLUDE_DEPTH} deep"
            ))
        } else if self.inclusions > MAX_FILES {
            self.exhausted = true;
            limit(format!("more than {MAX_FILES} files are included"))
        } else if self.bytes > MAX_BYTES {
            self.exhausted = true;
            limit(format!(
                "the included files have more than {} MiB",
                MAX_BYTES >> 20
            ))
        } else {
            return true;
        };
        self.problem(problem);
        false
    }

    fn chain(&self) -> String {
        let names: Vec<String> = self
            .open
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        names.join(" -> ")
    }

    fn read(&self, path: &Path) -> Result<Content, Unreadable> {
        let bytes = self
            .files
            .read(path, MAX_FILE_BYTES as u64 + 1)
            .map_err(|error| Unreadable {
                message: reason(&error),
                help: advice(&error),
            })?;
        if bytes.len() > MAX_FILE_BYTES {
            let message = format!("it has more than {} MiB", MAX_FILE_BYTES >> 20);
            return Err(Unreadable {
                message,
                help: "split it and compose the parts with `include`",
            });
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => Content {
                text,
                broken_at: None,
            },
            Err(error) => {
                let broken_at = Some(error.utf8_error().valid_up_to());
                Content {
                    text: String::from_utf8_lossy(error.as_bytes()).into_owned(),
                    broken_at,
                }
            }
        })
    }
}

fn parse(
    file: FileId,
    path: &Path,
    text: &str,
    depth: usize,
    problems: &mut Vec<Problem>,
) -> Document {
    if path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
    {
        syntax::json::to_document_at_depth(file, text, depth, problems)
    } else {
        syntax::parse_at_depth(file, text, depth, problems)
    }
}

fn is_include(node: &Node) -> bool {
    node.name.text == "include"
}

/// The path without `.` and, as far as the text of it tells, without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir
                if matches!(out.components().next_back(), Some(Component::Normal(_))) =>
            {
                out.pop();
            }
            _ => out.push(part),
        }
    }
    out
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "it is a directory".into(),
        _ => error.to_string(),
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "check the path; included paths are relative to the file that includes"
        }
        io::ErrorKind::PermissionDenied => "let the user that runs narthex read it",
        io::ErrorKind::IsADirectory => "name the files: include \"directory/*.kdl\"",
        _ => "check the file and the disk",
    }
}
